"""Error responses of the API: one JSON form for every status, without paths or tracebacks of the server."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

STATUS_MEANINGS = {
    400: "The request is not valid HTTP or multipart data.",
    401: "The server needs its token, as the header Authorization: Bearer TOKEN.",
    403: "The request comes from a page of another site.",
    404: "There is nothing of this name.",
    405: "The address does not support this method.",
    408: "The request did not arrive in time.",
    409: "The round is not the current one.",
    413: "The request or a photo is too large, or there are too many places.",
    415: "A photo is not a JPEG, PNG or WebP file.",
    421: "The Host header names a host that this server does not serve.",
    422: "A value is invalid.",
    429: "The server has reached its limit of requests. Retry-After gives the time to wait.",
    500: "Internal error of the server; its log has the details.",
    503: "The response took too long, or the server has reached its limit of connections.",
}
RETRY_AFTER_S = "1"
# Messages of FastAPI and pydantic that name Python classes, with the rule that a client can follow.
RULES_BY_MESSAGE = {
    "Expected UploadFile": "must be a photo, sent as a file",
    "valid dictionary or object": "must be a JSON object, sent with Content-Type: application/json",
}


class Problem(BaseModel):
    """Reason for an error response."""

    detail: str = Field(
        description="The rule that was broken, as a sentence.", examples=["north must be a JPEG file."]
    )


class ProblemError(HTTPException):
    """Request that cannot be answered: a status of `STATUS_MEANINGS` and a sentence for the client."""


def document_problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Makes the OpenAPI entries for the given statuses and the statuses that every endpoint can return."""
    statuses = sorted({400, 401, 403, 421, 422, 429, 500, 503, *codes})
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": STATUS_MEANINGS[status]} for status in statuses
    }
    problems[429]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return problems


def make_problem_response(status: int, detail: str) -> JSONResponse:
    """Makes an error response, with `Retry-After` if the client can try again."""
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers=headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Replaces the framework's error responses of an application by those of this module."""

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        # For an unknown address or method the framework gives only the phrase of the status.
        if detail == HTTPStatus(error.status_code).phrase:
            detail = STATUS_MEANINGS.get(error.status_code, detail)

        response = make_problem_response(error.status_code, detail)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def handle_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = []
        for entry in error.errors()[:5]:
            key, message = ".".join(map(str, entry["loc"][1:])) or "body", entry["msg"]
            rule = next((rule for part, rule in RULES_BY_MESSAGE.items() if part in message), message)
            lines.append(f"{key}: {rule}")
        return make_problem_response(422, "; ".join(lines))

    @app.exception_handler(Exception)
    async def handle_internal_error(request: Request, error: Exception) -> JSONResponse:
        return make_problem_response(500, STATUS_MEANINGS[500])
