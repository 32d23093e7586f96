"""Error responses: a page for browsers, plain text for programs."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from mlflow_trace_exporter import templating
from mlflow_trace_exporter.accept import qualities

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every page."""

_write = templating.page("mlflow_trace_exporter.web", "refusal.html")

_HINTS = {
    404: "This page does not exist.",
    405: "This address is not for browsers.",
    500: "This is a bug in the exporter. Its log has details.",
}
"""Messages for errors that come without one."""


async def of_exception(prefix: str, request: Request, error: Exception) -> Response:
    """The response to a request that failed. ``prefix`` is that of the site."""
    status, headers, said = 500, {}, ""
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        said = error.detail if error.detail != HTTPStatus(status).phrase else ""
    headers |= {"Vary": "Accept"}
    if not wants_page(request.headers.get("accept", "")):
        text = said or HTTPStatus(status).phrase
        return PlainTextResponse(f"{text}\n", status, headers)
    page = _write(
        title=f"{status} {HTTPStatus(status).phrase}",
        message=said or _HINTS.get(status, ""),
        home=_home(request.scope.get("raw_path", b"").decode("latin-1"), prefix),
    )
    return HTMLResponse(page, status, {**headers, **PAGE_HEADERS})


def wants_page(accept: str) -> bool:
    """Whether an Accept header names HTML, as browsers do, and prefers it to plain text or ranks both equally."""
    named = qualities(accept)
    return named.get("text/html", 0.0) > 0 and named["text/html"] >= named.get("text/plain", 0.0)


def _home(raw_path: str, prefix: str) -> str:
    """The relative link from a path to the status page. It is correct whether a proxy keeps its prefix or strips it.

    Examples: ./ from /traces, ../ from /trace/1, ../ from /prefix/trace/1.
    """
    inner = raw_path.removeprefix(prefix) if raw_path.startswith(f"{prefix}/") else raw_path
    return "../" * (inner.count("/") - 1) or "./"
