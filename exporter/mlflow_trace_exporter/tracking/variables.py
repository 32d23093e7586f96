"""The environment variables of MLflow's client: what the exporter sets, and what it validates."""

import math
import os
from functools import cache
from pathlib import Path
from typing import Any

from mlflow import environment_variables as mlflow_variables

from mlflow_trace_exporter.errors import UserError

DEFAULT_TIMEOUT_S = 30

_READ_BY_THE_CLIENT = (
    mlflow_variables.MLFLOW_ENABLE_DB_SDK,
    mlflow_variables.MLFLOW_HTTP_POOL_CONNECTIONS,
    mlflow_variables.MLFLOW_HTTP_POOL_MAXSIZE,
    mlflow_variables.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    mlflow_variables.MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    mlflow_variables.MLFLOW_HTTP_REQUEST_TIMEOUT,
    mlflow_variables.MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER,
    mlflow_variables.MLFLOW_HTTP_TCP_KEEPALIVE,
    mlflow_variables.MLFLOW_HTTP_TCP_KEEPALIVE_COUNT,
    mlflow_variables.MLFLOW_HTTP_TCP_KEEPALIVE_IDLE,
    mlflow_variables.MLFLOW_HTTP_TCP_KEEPALIVE_INTERVAL,
    mlflow_variables.MLFLOW_TRACKING_AWS_SIGV4,
    mlflow_variables.MLFLOW_TRACKING_INSECURE_TLS,
)
"""Variables that are validated here, because MLflow's client would notice invalid values only at the first request."""

_KINDS = {bool: "true or false", int: "an integer", float: "a number"}


def prepare_client(timeout_s: float | None, retries: int = 0) -> None:
    """Make the MLflow client of this process give up early; the poller retries instead.

    By default the client retries for minutes, and the exporter would not notice a stop or an outage in the meantime.
    ``retries`` is for commands, which read only once: with two retries the client gives up after about five seconds if
    nothing listens.
    ``timeout_s`` None keeps MLFLOW_HTTP_REQUEST_TIMEOUT as the user set it, or DEFAULT_TIMEOUT_S if it is not set.
    Raises UserError if one of MLflow's variables has an invalid value.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
    of_the_user = _timeout_of_the_user()  # cached before we set the variable, because reloads call this again
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = of_the_user if timeout_s is None else str(math.ceil(timeout_s))
    for variable in _READ_BY_THE_CLIENT:
        _value(variable)
    if _value(mlflow_variables.MLFLOW_HTTP_REQUEST_TIMEOUT) < 1:
        raise UserError("MLFLOW_HTTP_REQUEST_TIMEOUT: must be at least 1 (second)")
    for variable in (
        mlflow_variables.MLFLOW_TRACKING_SERVER_CERT_PATH,
        mlflow_variables.MLFLOW_TRACKING_CLIENT_CERT_PATH,
    ):
        if variable.get() and not Path(variable.get()).exists():
            raise UserError(f"{variable.name}: the file {variable.get()} does not exist")
    if mlflow_variables.MLFLOW_TRACKING_SERVER_CERT_PATH.get() and mlflow_variables.MLFLOW_TRACKING_INSECURE_TLS.get():
        raise UserError("set only one of MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_INSECURE_TLS")


@cache
def _timeout_of_the_user() -> str:
    return os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or str(DEFAULT_TIMEOUT_S)


def _value(variable: Any) -> Any:
    try:
        return variable.get()
    except ValueError:
        given, kind = os.environ[variable.name], _KINDS.get(variable.type, "another value")
        raise UserError(f"{variable.name}: {given!r} is not a valid value; write {kind}") from None
