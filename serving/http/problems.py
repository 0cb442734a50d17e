"""Errors as RFC 9457 problem documents: what each failure is called, and what it tells the client.

Does not belong here: deciding that something failed.
"""

from __future__ import annotations

import http
import json
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from serving.errors import InvalidFilter, Unavailable, UnknownItems
from serving.http.schemas import FieldError, ProblemDocument

MEDIA_TYPE = "application/problem+json"

REQUEST_ID = "marquee.request_id"
"""Where the ASGI scope holds the request's id."""

MAX_ERRORS = 32
"""Errors listed in one document. A body of 1 MiB can hold 100,000; describing each takes 3 µs."""

MAX_TEXT = 240
"""Characters of any one string of a document: what the client sent is quoted, not echoed."""


class Problem(Exception):
    """A failure that is already described as the client shall see it.

    `kind` is the last part of a URN, as nothing is published under these types yet; None (`about:blank`,
    RFC 9457 section 4.2.1) says no more than the status does.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = errors
        self.headers = headers

    def response(self, scope: Scope) -> Response:
        document: ProblemDocument = {
            "type": "about:blank" if self.kind is None else f"urn:marquee:problem:{self.kind}",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": _short(self.detail),
            "instance": f"urn:marquee:request:{scope[REQUEST_ID]}",
        }
        if self.errors:
            document["errors"] = [
                {"field": _short(error["field"]), "reason": _short(error["reason"])} for error in self.errors
            ]
        return Response(
            json.dumps(document), status_code=self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def invalid_request(error: ValidationError) -> Problem:
    """400 where the body is not JSON, else 422 naming the fields."""
    if error.error_count() > MAX_ERRORS:
        detail = f"the request has {error.error_count()} errors, too many to list"
        return Problem(422, detail, "invalid-request")
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return Problem(400, f"the body is not JSON: {details[0]['ctx']['error']}", "malformed-json")
    errors: list[FieldError] = []
    for each in details:
        # A wrong key of an object is reported at (…, key, "[key]").
        path = ".".join(str(part) for part in each["loc"] if part != "[key]")
        fields = each["ctx"]["fields"] if each["type"] == "exactly_one" else [path]
        errors += [{"field": field, "reason": _reason(each["type"], each["msg"])} for field in fields]
    return _unprocessable(errors)


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such field"
    return message.replace("Input should be", "must be", 1)


def _unprocessable(errors: Sequence[FieldError]) -> Problem:
    named = "; ".join(f"{error['field'] or 'body'}: {error['reason']}" for error in errors)
    return Problem(422, named, "invalid-request", errors)


def unavailable(error: Unavailable) -> Problem:
    retry_after = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return Problem(503, str(error), "unavailable", headers=retry_after)


def unknown_items(error: UnknownItems) -> Problem:
    reason = "is not in the catalogue"
    errors: list[FieldError] = [
        {"field": error.field, "reason": f"item {item_id!r} {reason}"}
        for item_id in error.item_ids[:MAX_ERRORS]
    ]
    return Problem(404, str(error), "unknown-item", errors)


def invalid_filter(error: InvalidFilter) -> Problem:
    return _unprocessable([{"field": f"filter.{error.field}", "reason": error.reason}])


def _http(error: HTTPException, request: Request) -> Problem:
    """What the router found: no such route, or not with this method."""
    detail = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not allowed at {request.url.path}",
    }.get(error.status_code, error.detail)
    return Problem(error.status_code, detail, headers=error.headers)


def unexpected() -> Problem:
    """A defect. What went wrong is in the log under the request's id, and nowhere else."""
    return Problem(500, "the server failed to answer; the failure is in its log under this instance")


async def _answer(request: Request, error: Exception) -> Response:
    match error:
        case Problem():
            problem = error
        case InvalidFilter():
            problem = invalid_filter(error)
        case UnknownItems():
            problem = unknown_items(error)
        case Unavailable():
            problem = unavailable(error)
        case HTTPException():
            problem = _http(error, request)
        case _:
            raise error
    return problem.response(request.scope)


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = (
    dict.fromkeys((Problem, InvalidFilter, UnknownItems, Unavailable, HTTPException), _answer)
)
"""For `FastAPI(exception_handlers=…)`."""
