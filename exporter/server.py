"""The HTTP server: metrics for Prometheus, a page for people, a health check for whoever restarts us."""

import html
import os
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter import __version__
from exporter.errors import UserError
from exporter.exposition import Exposition, Format

STOP_TIMEOUT_S = 1
"""How long a stop waits for answers that are being sent."""


def application(exposition: Exposition, telemetry_path: str) -> Starlette:
    """The application that serves ``exposition`` under ``telemetry_path``."""

    def metrics(
        request: Request,
    ) -> Response:  # not async: rendering takes a while, and has a thread of its own so
        fmt = Format.accepted(request.headers.get("accept", ""))
        compress = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Content-Type": fmt.value, "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return Response(exposition.render(fmt, compress), headers=headers)

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("mlflow-trace-exporter is healthy\n")

    async def landing(_: Request) -> Response:
        return HTMLResponse(_LANDING.format(version=html.escape(__version__), path=html.escape(telemetry_path)))

    return Starlette(
        routes=[
            Route(telemetry_path, metrics),
            Route("/-/healthy", healthy),
            Route("/", landing),
        ]
    )


_LANDING = """<!doctype html>
<html lang="en"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>mlflow-trace-exporter</title>
<h1>mlflow-trace-exporter {version}</h1>
<p>Metrics of the traces that MLflow stores: <a href="{path}">{path}</a></p>
</html>
"""


def listen(address: str) -> socket.socket:
    """A listening socket for ``host:port``, ``[ipv6]:port`` or ``:port`` (all addresses).

    Raises UserError where the address is not of that form or cannot be had.
    """
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--web.listen-address: {address!r} is not an address; write HOST:PORT, as in 127.0.0.1:10500")
    try:
        if host:
            family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, int(port)), family=family, backlog=128)
        dual = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", int(port)),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            backlog=128,
            dualstack_ipv6=dual,
        )
    except OSError as error:
        raise UserError(
            f"--web.listen-address: cannot listen on {address}: {what_failed(error)};"
            " stop what uses it, or choose another port"
        ) from None


def what_failed(error: OSError) -> str:
    """The system's words for an error, without what Python adds to them."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


def address(listener: socket.socket) -> str:
    """The address that a socket listens on, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def web_server(app: Starlette) -> uvicorn.Server:
    """A server for ``run(sockets=[listener])``: it runs until SIGINT, SIGTERM, or its ``should_exit`` is set."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        timeout_keep_alive=75,  # longer than a scrape interval, so that Prometheus keeps its connection
        lifespan="off",
    )
    return uvicorn.Server(config)
