"""Errors as JSON: {"error": {"code", "message"}}. A code is stable, a message is one line for people; traces stay in the log."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwright.errors import ImageError, MaskwrightError, ModelError, SettingsError, VocabularyError

log = logging.getLogger("maskwright")
LONGEST = 500  # characters of a message
CODES = {
    401: "token_needed", 403: "origin_refused", 404: "not_found", 405: "method_not_allowed", 413: "upload_too_large",
    415: "wrong_content_type",
}  # fmt: skip
OURS: tuple[tuple[type[MaskwrightError], str], ...] = (
    (ImageError, "bad_image"), (VocabularyError, "bad_labels"), (SettingsError, "bad_settings"), (ModelError, "model_failed"),
)  # fmt: skip


class Problem(HTTPException):
    """A request that is answered by an error.

    Args:
        status: of HTTP, from 400.
        code: what a program looks at; it never changes.
        message: what a person reads: what is wrong and how to mend it.
        headers: further ones of the answer.
    """

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code

    def response(self) -> Response:
        """The answer."""
        text = " ".join(str(self.detail).split())
        text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
        body = json.dumps({"error": {"code": self.code, "message": text}}).encode("ascii")  # a lone surrogate is \udcff here
        return Response(body, self.status_code, headers=self.headers, media_type="application/json")


def as_problem(error: Exception) -> Problem:
    """What a request or its user caused, as a problem."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MaskwrightError):
        code = next((code for kind, code in OURS if isinstance(error, kind)), "bad_request")
        return Problem(422, code, str(error))
    if isinstance(error, RequestValidationError | ValidationError):
        return Problem(422, "bad_request", _explain(error))
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "bad_request" if error.status_code < 500 else "internal")
        return Problem(error.status_code, code, str(error.detail), headers=error.headers)
    return Problem(500, "internal", "something went wrong in the server, which has logged it; please report it")


def install(app: FastAPI) -> None:
    """Lets an application answer the errors of its routes in this form; `Guard` answers all others."""

    async def answer(_: Request, error: Exception) -> Response:
        return as_problem(error).response()

    for kind in (HTTPException, MaskwrightError, RequestValidationError, ValidationError):
        app.add_exception_handler(kind, answer)


def _explain(error: RequestValidationError | ValidationError) -> str:
    """The first things that are wrong with a request's fields, without the values that were sent."""
    found = [f"{_place(one.get('loc', ()))}: {one.get('msg', 'cannot be used')}" for one in error.errors()]
    return "; ".join(dict.fromkeys(found[:3])) + ("; ..." if len(found) > 3 else "")


def _place(path: Any) -> str:
    return ".".join(str(part) for part in path if part != "body") or "the body"


class Guard:
    """Around all other layers: answers what they raise. An error that nobody thought of is logged with its trace and told without."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the layers inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noticed)
        except Exception as error:
            problem = as_problem(error)
            if problem.status_code >= 500 and not isinstance(error, Problem):
                log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: all that is left is to cut the connection
            await problem.response()(scope, receive, send)
