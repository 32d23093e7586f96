"""What is served over HTTP: metrics for Prometheus, pages for people, and what operators ask."""

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
"""How much of an answer waits in memory for a client that reads slowly."""

MAX_WAITING = 10
"""How many can wait for an answer that takes MLflow, or a look at a file; who comes then is told to come again."""

HEALTHY, READY = "/-/healthy", "/-/ready"


def _busy() -> HTTPException:
    return HTTPException(503, "Too many ask for this at the moment: try again.", {"Retry-After": "1"})


class _AnyPath(PathConvertor):
    """The rest of a path, line ends included: ids of traces can have them."""

    regex = r"[\s\S]*"


register_url_convertor("path", _AnyPath())  # also for what is mounted


@dataclass(frozen=True, slots=True)
class Site:
    """What the application serves, and where.

    ``prefix`` is the path under which a proxy reaches it, "" for none. ``mlflow_url`` is where people open MLflow;
    ``trace_url`` is the page of a trace there, None for an id that is unknown, and raises PollError where MLflow cannot
    be asked. ``traces_page`` is the page that answers a query for traces; it raises ValueError for one that makes no
    sense, and PollError likewise. ``reload`` reads the configuration again, and raises UserError if it cannot be used.
    """

    exposition: Exposition
    telemetry_path: str
    prefix: str
    mlflow_url: Callable[[], str]
    trace_url: Callable[[str], str | None]
    traces_page: Callable[[Iterable[tuple[str, str]]], bytes]
    reload: Callable[[], None]
    page: StatusPage = field(default_factory=StatusPage)
    one_reload: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    few_questions: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Who asks for many traces keeps neither MLflow nor our threads from others."""

    @property
    def open_paths(self) -> frozenset[str]:
        """What may be read without a password: it tells nothing, and what checks health has none."""
        return frozenset(root + path for root in ("", self.prefix) for path in (HEALTHY, READY))

    async def metrics(self, request: Request) -> Response:
        """The latest snapshot in the format that is asked for; at once if it was asked for before."""
        fmt = Format.accepted(_all_of(request, "accept"))
        compress = _accepts_gzip(_all_of(request, "accept-encoding"))
        text = self.exposition.ready((fmt, compress))
        if text is None:
            text = await run_in_threadpool(self.exposition.render, (fmt, compress))
        headers = {"Content-Type": fmt.value, "Vary": "Accept, Accept-Encoding"}
        return _InPieces(text, headers={**headers, **({"Content-Encoding": "gzip"} if compress else {})})

    async def status(self, _: Request) -> Response:
        """The status page."""
        snapshot = self.exposition.snapshot
        links = Links(self.telemetry_path.lstrip("/"), self.mlflow_url())
        return HTMLResponse(await run_in_threadpool(self.page.text, snapshot, links, time.time()), headers=PAGE_HEADERS)

    async def healthy(self, _: Request) -> Response:
        """Whether the process works."""
        return PlainTextResponse("mlflow-trace-exporter is healthy\n")

    async def ready(self, _: Request) -> Response:
        """Whether there is something to scrape: from the end of the first poll on, be it that MLflow is away."""
        if self.exposition.snapshot.status.polls:
            return PlainTextResponse("mlflow-trace-exporter is ready\n")
        return PlainTextResponse("not ready: the first poll has not ended\n", 503)

    async def reload_configuration(self, _: Request) -> Response:
        """Read the configuration file again, and use it if it is right in all."""
        if self.one_reload.statistics().tasks_waiting >= MAX_WAITING:
            raise _busy()
        try:
            await to_thread.run_sync(self.reload, limiter=self.one_reload)
        except UserError:  # its message quotes from the file, which is not for everybody
            return PlainTextResponse("the file cannot be used, the log says why; the configuration is as it was\n", 500)
        return PlainTextResponse("the configuration was read again\n")

    async def trace(self, request: Request) -> Response:
        """The way from an exemplar to its trace in MLflow."""
        url = await self._ask(request, self.trace_url, request.path_params["trace_id"])
        if url is None:
            raise HTTPException(404, "MLflow has no trace of this id in the experiments that are read.")
        return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})

    async def traces(self, request: Request) -> Response:
        """The traces that an alert is about."""
        try:
            page = await self._ask(request, self.traces_page, request.query_params.multi_items())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return HTMLResponse(page, headers=PAGE_HEADERS)

    async def runbook(self, _: Request) -> Response:
        """What to do about an alert."""
        return HTMLResponse(runbook.page(), headers=PAGE_HEADERS)

    async def _ask(self, request: Request, question: Callable[[T], R], about: T) -> R:
        """The answer of MLflow to a question of somebody's. Raises HTTPException where there is none."""
        if self.few_questions.statistics().tasks_waiting >= MAX_WAITING:
            raise _busy()
        try:
            async with self.few_questions:
                if await request.is_disconnected():
                    raise _busy()  # nobody waits for it any more
                return await to_thread.run_sync(question, about)
        except PollError as error:
            log.debug(str(error), extra={"reason": error.reason.value})
            raise HTTPException(502, "MLflow does not answer now. The status page says more.") from None


def application(site: Site) -> Starlette:
    """The ASGI application."""
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
    app.router.redirect_slashes = False  # it would send clients to whatever their Host header says
    if site.prefix:
        app.add_route(site.prefix, lambda _: RedirectResponse(f"{site.prefix}/"))
        app.mount(site.prefix, Router(routes, redirect_slashes=False))
    return app


class _InPieces(Response):
    """An answer that waits for its reader: only a piece of it is handed to the connection at a time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is received
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(0, len(self.body), PIECE_BYTES):
            piece = self.body[at : at + PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _accepts_gzip(header: str) -> bool:
    liked = qualities(header)
    return liked.get("gzip", 0.0) > 0 and liked["gzip"] >= liked.get("identity", 0.0)


def _all_of(request: Request, header: str) -> str:
    """A header that may be there several times."""
    return ",".join(request.headers.getlist(header))
