"""The HTTP server: metrics for Prometheus, a page for people, a health check for whoever restarts us."""

import errno
import html
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter import __version__
from exporter.errors import UserError, what_failed
from exporter.exposition import Exposition, Format

STOP_TIMEOUT_S = 1
"""How long a stop waits for answers that are being sent."""


def application(exposition: Exposition, telemetry_path: str) -> Starlette:
    """The application that serves ``exposition`` under ``telemetry_path``."""

    # not async, so that it has a thread of its own: rendering takes a while
    def metrics(request: Request) -> Response:
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
    except UnicodeError:
        raise UserError(f"--web.listen-address: {host!r} is not the name of a host") from None
    except OSError as error:
        remedy = "; stop what uses it, or choose another port" if error.errno == errno.EADDRINUSE else ""
        raise UserError(f"--web.listen-address: cannot listen on {address}: {what_failed(error)}{remedy}") from None


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
