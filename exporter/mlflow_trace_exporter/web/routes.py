"""The HTTP endpoints: metrics for Prometheus, pages for people, and health, readiness and reload for operators."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from mlflow_trace_exporter.accept import qualities
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.metrics.exposition import Exposition, Format
from mlflow_trace_exporter.web import refusals, runbook
from mlflow_trace_exporter.web.refusals import PAGE_HEADERS
from mlflow_trace_exporter.web.status_page import Links, StatusPage

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PIECE_BYTES = 262_144
"""How much of a response is buffered for a client that reads slowly."""

MAX_WAITING = 10
"""How many requests may wait for MLflow, or for a reload. Further ones get a 503 and should try again."""

HEALTHY, READY = "/-/healthy", "/-/ready"


def _busy() -> HTTPException:
    return HTTPException(503, "Too many requests are waiting for this. Try again.", {"Retry-After": "1"})


class _AnyPath(PathConvertor):
    """The rest of a path, including line breaks, because trace ids can contain them."""

    regex = r"[\s\S]*"


register_url_convertor("path", _AnyPath())  # also applies to mounted routes


@dataclass(frozen=True, slots=True)
class Site:
    """The handlers of all endpoints, and what they need.

    ``exposition`` returns what may be exposed now. ``prefix`` is the path under which a proxy serves the application,
    "" for none. ``mlflow_url`` returns the URL at which people open MLflow. ``trace_url`` returns the page of a trace
    there, or None for an unknown id. ``traces_page`` returns the page for a query; it raises ValueError for an invalid
    one. Both raise PollError if MLflow is unavailable. ``reload`` reloads the configuration, and raises UserError if
    that is invalid.
    """

    exposition: Callable[[], Exposition]
    telemetry_path: str
    prefix: str
    mlflow_url: Callable[[], str]
    trace_url: Callable[[str], str | None]
    traces_page: Callable[[Iterable[tuple[str, str]]], bytes]
    reload: Callable[[], None]
    page: StatusPage = field(default_factory=StatusPage)
    one_reload: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    few_questions: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """A client that asks for many traces cannot occupy MLflow or all threads."""

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths that need no password: they reveal nothing, and health checks have no password."""
        return frozenset(root + path for root in ("", self.prefix) for path in (HEALTHY, READY))

    async def metrics(self, request: Request) -> Response:
        """The latest snapshot in the requested format. Repeated requests get the cached text."""
        fmt = Format.accepted(_all_of(request, "accept"))
        compress = _accepts_gzip(_all_of(request, "accept-encoding"))
        exposition = self.exposition()
        text = exposition.ready((fmt, compress))
        if text is None:
            text = await run_in_threadpool(exposition.render, (fmt, compress))
        headers = {"Content-Type": fmt.value, "Vary": "Accept, Accept-Encoding"}
        return _InPieces(text, headers={**headers, **({"Content-Encoding": "gzip"} if compress else {})})

    async def status(self, _: Request) -> Response:
        """The status page."""
        snapshot = self.exposition().snapshot
        links = Links(self.telemetry_path.lstrip("/"), self.mlflow_url())
        return HTMLResponse(await run_in_threadpool(self.page.text, snapshot, links, time.time()), headers=PAGE_HEADERS)

    async def healthy(self, _: Request) -> Response:
        """Liveness: the process answers requests."""
        return PlainTextResponse("mlflow-trace-exporter is healthy\n")

    async def ready(self, _: Request) -> Response:
        """Readiness: ready once the first poll has ended, even if MLflow was unavailable. Whoever stands by for another
        process is not ready."""
        status = self.exposition().snapshot.status
        if status.stands_by is not None:
            who = status.stands_by.holder or "no other process that is known"
            return PlainTextResponse(f"not ready: this process stands by; {who} leads\n", 503)
        if status.polls:
            return PlainTextResponse("mlflow-trace-exporter is ready\n")
        return PlainTextResponse("not ready: the first poll has not ended\n", 503)

    async def reload_configuration(self, _: Request) -> Response:
        """Reload the configuration file. It is used only if all of it is valid."""
        if self.one_reload.statistics().tasks_waiting >= MAX_WAITING:
            raise _busy()
        try:
            await to_thread.run_sync(self.reload, limiter=self.one_reload)
        except UserError:  # its message quotes from the file, which may be confidential
            text = "the configuration file is invalid (see the log); the previous configuration stays in use\n"
            return PlainTextResponse(text, 500)
        return PlainTextResponse("configuration reloaded\n")

    async def trace(self, request: Request) -> Response:
        """Redirect to a trace in MLflow. Exemplars link here."""
        url = await self._ask(request, self.trace_url, request.path_params["trace_id"])
        if url is None:
            raise HTTPException(404, "MLflow has no trace with this id in the selected experiments.")
        return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})

    async def traces(self, request: Request) -> Response:
        """The list of traces. Alerts and panels link here."""
        try:
            page = await self._ask(request, self.traces_page, request.query_params.multi_items())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return HTMLResponse(page, headers=PAGE_HEADERS)

    async def runbook(self, _: Request) -> Response:
        """The runbook: what to do about each alert."""
        return HTMLResponse(runbook.page(), headers=PAGE_HEADERS)

    async def _ask(self, request: Request, question: Callable[[T], R], about: T) -> R:
        """Call a function that asks MLflow, for one request. Raises HTTPException if there is no answer."""
        if self.few_questions.statistics().tasks_waiting >= MAX_WAITING:
            raise _busy()
        try:
            async with self.few_questions:
                if await request.is_disconnected():
                    raise _busy()  # the client has gone
                return await to_thread.run_sync(question, about)
        except PollError as error:
            log.debug(str(error), extra={"reason": error.reason.value})
            raise HTTPException(502, "MLflow does not answer. The status page has details.") from None


def application(site: Site) -> Starlette:
    """Create the ASGI application."""
    routes: Sequence[BaseRoute] = [
        Route(site.telemetry_path, site.metrics),
        Route("/", site.status),
        Route(HEALTHY, site.healthy),
        Route(READY, site.ready),
        Route("/-/reload", site.reload_configuration, methods=["POST"]),
        Route("/trace/{trace_id:path}", site.trace),
        Route("/traces", site.traces),
        Route("/runbook", site.runbook),
    ]
    refuse = partial(refusals.of_exception, site.prefix)
    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse, Exception: refuse})
    app.router.redirect_slashes = False  # because it would redirect to whatever the Host header says
    if site.prefix:
        app.add_route(site.prefix, lambda _: RedirectResponse(f"{site.prefix}/"))
        app.mount(site.prefix, Router(routes, redirect_slashes=False))
    return app


class _InPieces(Response):
    """A response that is sent piece by piece, at the pace of its reader."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - there is nothing to receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(0, len(self.body), PIECE_BYTES):
            piece = self.body[at : at + PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _accepts_gzip(header: str) -> bool:
    liked = qualities(header)
    return liked.get("gzip", 0.0) > 0 and liked["gzip"] >= liked.get("identity", 0.0)


def _all_of(request: Request, header: str) -> str:
    """The joined values of a header that may occur several times."""
    return ",".join(request.headers.getlist(header))
