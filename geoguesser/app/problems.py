"""Problems: how the API says no. One JSON form for all, and nothing in it that is the owner's alone."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

STATUS_MEANINGS = {
    400: "The request is no proper HTTP or multipart.",
    403: "The request comes from a page of another site.",
    404: "There is nothing of that name.",
    405: "There is no such method here.",
    408: "The request did not arrive in time.",
    409: "The round is not the one that is on.",
    413: "The request or a photo is too large, or there are too many places.",
    415: "A photo is no JPEG, PNG or WebP file.",
    421: "The Host header names a host that this server is not.",
    422: "A value breaks its rule.",
    429: "The server has as much to do as it takes on. Retry-After says when to come back.",
    500: "The server has made a mistake; its log says which.",
    503: "The answer took too long, or the server is full.",
}
RETRY_AFTER_S = "1"
RULES_BY_MESSAGE = {  # a framework's words -> ours
    "Expected UploadFile": "must be a photo, sent as a file",
    "valid dictionary or object": "must be a JSON object, sent with Content-Type: application/json",
}


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(
        description="What rule was broken, in a sentence.", examples=["north must be a JPEG file."]
    )


class ProblemError(HTTPException):
    """A request that cannot be answered: a status of `STATUS_MEANINGS`, and a sentence that a client may read."""


def document_problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for an endpoint's OpenAPI, and those that any endpoint may have."""
    every = (400, 403, 421, 422, 429, 500, 503)
    headers = {429: {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}}
    return {
        code: {"model": Problem, "description": STATUS_MEANINGS[code], **headers.get(code, {})}
        for code in sorted({*every, *codes})
    }


def make_problem_response(status: int, detail: str) -> JSONResponse:
    """The response that says it."""
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers=headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Gives an application these answers in place of its framework's own."""

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase  # is all that the framework says: no sentence
        plain = error.detail == phrase and error.status_code in STATUS_MEANINGS
        said = make_problem_response(
            error.status_code, STATUS_MEANINGS[error.status_code] if plain else str(error.detail)
        )
        said.headers.update(error.headers or {})
        return said

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or 'body'}: {_rule(one['msg'])}"
            for one in error.errors()
        ]
        return make_problem_response(422, "; ".join(lines[:5]))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return make_problem_response(500, "The server has made a mistake. Its log says which.")


def _rule(words: str) -> str:
    """What a validator says, in words that name none of its classes."""
    return next((rule for known, rule in RULES_BY_MESSAGE.items() if known in words), words)
