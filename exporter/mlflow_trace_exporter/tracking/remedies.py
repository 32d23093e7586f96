"""The messages for failed requests to MLflow: what happened, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_trace_exporter.errors import Reason


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``sentence`` explains what happened and what to do. Its placeholders are {uri}, {host} (with the port), {name}
    (without the port) and {location} (the target of a redirect)."""

    reason: Reason
    sentence: str


TIMEOUT = Diagnosis(Reason.TIMEOUT, "MLflow at {uri} did not answer in time; raise mlflow.timeout if it is only slow")
BAD_ANSWER = Diagnosis(Reason.BAD_ANSWER, "MLflow at {uri} returned an invalid response; is this an MLflow server?")
WEB_PAGE = Diagnosis(
    Reason.BAD_ANSWER,
    "{uri} returned a web page instead of data. If it is a login page in front of MLflow, set MLFLOW_TRACKING_TOKEN, or"
    " let the exporter pass without a login; otherwise set mlflow.tracking_uri to MLflow's own address",
)
NOT_ASKED = Diagnosis(
    Reason.CONFIGURATION,
    "MLflow's client could not send the request to {uri}; check the environment variables and files that it names",
)
HEADER = Diagnosis(
    Reason.CREDENTIALS,
    "the request to MLflow at {uri} was not sent, because the token or password is not valid in an HTTP header; does it"
    " contain a line break?",
)
ADDRESS = Diagnosis(Reason.CONFIGURATION, "{uri} is not a valid address; correct mlflow.tracking_uri")
UNREACHABLE = Diagnosis(
    Reason.UNREACHABLE, "MLflow at {uri} cannot be reached; is it running, and is mlflow.tracking_uri right?"
)

PROXY_PASSWORD = Diagnosis(
    Reason.CREDENTIALS,
    "the proxy for MLflow at {uri} requires a password; set it in HTTP_PROXY or HTTPS_PROXY"
    " (http://USER:PASSWORD@PROXY:PORT), or add {name} to NO_PROXY",
)
ENDLESS_REDIRECTION = Diagnosis(
    Reason.CONFIGURATION, "{uri} redirects endlessly; set mlflow.tracking_uri to MLflow's own address"
)

BY_WORDS: tuple[tuple[str, Diagnosis], ...] = (
    (
        r"hostname|IP address mismatch|doesn't match",
        Diagnosis(
            Reason.UNREACHABLE,
            "the certificate of MLflow at {uri} is for another host name; use a host name of the certificate in"
            " mlflow.tracking_uri",
        ),
    ),
    (
        r"certificate has expired|not yet valid",
        Diagnosis(
            Reason.UNREACHABLE,
            "the certificate of MLflow at {uri} has expired or is not valid yet; renew it, or correct this machine's"
            " clock",
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        Diagnosis(
            Reason.UNREACHABLE,
            "this machine does not trust the certificate of MLflow at {uri}; set MLFLOW_TRACKING_SERVER_CERT_PATH to"
            " the certificate of the authority that signed it, or MLFLOW_TRACKING_INSECURE_TLS=true to skip"
            " verification",
        ),
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL",
        Diagnosis(
            Reason.UNREACHABLE,
            "{uri} does not use TLS; write http:// in mlflow.tracking_uri, or use another port",
        ),
    ),
    (
        r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA",
        Diagnosis(
            Reason.UNREACHABLE,
            "MLflow at {uri}, or a proxy in front of it, requires a valid client certificate; set"
            " MLFLOW_TRACKING_CLIENT_CERT_PATH",
        ),
    ),
    (
        r"PEM lib|NO_START_LINE|KEY_VALUES_MISMATCH|\bX509\b",
        Diagnosis(
            Reason.CONFIGURATION,
            "a certificate or key for MLflow at {uri} is not valid PEM; check MLFLOW_TRACKING_CLIENT_CERT_PATH and"
            " MLFLOW_TRACKING_SERVER_CERT_PATH",
        ),
    ),
    (r"407 Proxy Authentication", PROXY_PASSWORD),
    (
        r"ProxyError",
        Diagnosis(
            Reason.UNREACHABLE,
            "the proxy for MLflow at {uri} cannot be used; check HTTP_PROXY and HTTPS_PROXY, or add {name} to NO_PROXY",
        ),
    ),
    (
        r"NameResolutionError|Failed to resolve",
        Diagnosis(
            Reason.UNREACHABLE,
            "the host name in {uri} cannot be resolved; correct mlflow.tracking_uri, or check DNS",
        ),
    ),
    (
        r"RemoteDisconnected|without response|reset by peer",
        Diagnosis(
            Reason.UNREACHABLE,
            "{uri} closed the connection without a response; did MLflow just stop, or does it use https?",
        ),
    ),
)
"""Diagnoses by the text of a connection error; the first match wins."""

BY_REFUSAL: tuple[tuple[str, Diagnosis], ...] = (
    (
        r"Invalid Host header",
        Diagnosis(
            Reason.CONFIGURATION,
            "MLflow at {uri} does not accept requests for the host {host}; start MLflow with --allowed-hosts including"
            " {host}, or set mlflow.tracking_uri to an address that MLflow allows",
        ),
    ),
    (
        r"HTTP request (was )?(sent )?to (an )?HTTPS",
        Diagnosis(Reason.CONFIGURATION, "{uri} uses TLS; write https:// in mlflow.tracking_uri"),
    ),
    (
        r"RESOURCE_DOES_NOT_EXIST|[Ww]orkspace",
        Diagnosis(
            Reason.CONFIGURATION,
            "MLflow at {uri} did not find the workspace or experiment; check mlflow.workspaces (by default"
            " MLFLOW_WORKSPACE) and mlflow.experiments",
        ),
    ),
)
"""Diagnoses by the text of a refusal, checked before its status. The second covers the texts of nginx and Go."""

NO_SUCH_PLACE = Diagnosis(
    Reason.CONFIGURATION,
    "{uri} does not have MLflow's API; mlflow.tracking_uri must be the address of an MLflow 3 server, including the"
    " prefix that a proxy adds, but without the path of a page or of the API",
)
NOT_UNDERSTOOD = Diagnosis(Reason.CONFIGURATION, "MLflow at {uri} does not understand the request")
REFUSED_BY_PROXY = "a proxy in front of MLflow at {uri} refused the request: "

BY_STATUS: Mapping[int, Diagnosis] = {
    400: NOT_UNDERSTOOD,
    401: Diagnosis(
        Reason.CREDENTIALS,
        "MLflow at {uri} refused the credentials; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
        " MLFLOW_TRACKING_TOKEN",
    ),
    403: Diagnosis(
        Reason.CREDENTIALS,
        "MLflow at {uri}, or a proxy in front of it, denied access; give the exporter's user or token permission to"
        " read the experiments",
    ),
    404: NO_SUCH_PLACE,
    405: NO_SUCH_PLACE,
    407: PROXY_PASSWORD,
    408: TIMEOUT,
    411: Diagnosis(Reason.CONFIGURATION, REFUSED_BY_PROXY + "it requires a Content-Length header; change its settings"),
    413: Diagnosis(
        Reason.CONFIGURATION,
        REFUSED_BY_PROXY + "the request is too large; let it accept 1 MB (in nginx: client_max_body_size 1m)",
    ),
    414: Diagnosis(Reason.CONFIGURATION, REFUSED_BY_PROXY + "the address is too long; check mlflow.tracking_uri"),
    421: Diagnosis(
        Reason.CONFIGURATION,
        REFUSED_BY_PROXY + "it does not serve the host {host}; use the host name of its certificate in"
        " mlflow.tracking_uri",
    ),
    422: NO_SUCH_PLACE,
    429: Diagnosis(Reason.THROTTLED, "MLflow at {uri} limits requests; raise poll.interval if this continues"),
    431: Diagnosis(
        Reason.CONFIGURATION,
        REFUSED_BY_PROXY + "the headers are too large; check MLFLOW_TRACKING_TOKEN, or raise the limit of the proxy",
    ),
    500: Diagnosis(Reason.SERVER_ERROR, "MLflow at {uri} had an internal error; see the log of the MLflow server"),
    501: Diagnosis(Reason.SERVER_ERROR, NO_SUCH_PLACE.sentence),
    511: Diagnosis(
        Reason.SERVER_ERROR, "the network requires a login to reach MLflow at {uri}; log in, or use another network"
    ),
}
SOME_REDIRECTION = Diagnosis(
    Reason.CONFIGURATION,
    "{uri} redirects to {location}. If that is a login page in front of MLflow, set MLFLOW_TRACKING_TOKEN, or let the"
    " exporter pass without a login; otherwise set mlflow.tracking_uri to the final address",
)
MOVED = Diagnosis(Reason.CONFIGURATION, "{uri} redirects to {location}; set mlflow.tracking_uri to that")
SOME_REFUSAL = Diagnosis(
    Reason.CONFIGURATION,
    "MLflow at {uri}, or a proxy in front of it, refused the request; check mlflow.tracking_uri and the proxy",
)
SOME_GATEWAY = Diagnosis(
    Reason.SERVER_ERROR,
    "a proxy in front of MLflow at {uri} got no response from MLflow, or MLflow is overloaded; is MLflow running? See"
    " the logs of both",
)
