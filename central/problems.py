"""Errors of the human API as RFC 9457 problems: one shape for all, and where they come from.

::

    ApiProblem        a route says no: status, stable code, a sentence of what to do
    validation        FastAPI's own error on input, told field by field
    404, 405          Starlette's, for paths and methods nobody serves
    database away     `DatabaseAway` of storage: 503 with Retry-After
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import FastAPI, WebSocket
from fastapi.exceptions import (
    RequestValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from central.storage.database import DatabaseAway, TransactionClash
from shared.errors import SpineError

MEDIA_TYPE: Final = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    place: str = Field(description="Where: `query.from`, `path.project`, …")
    detail: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field(default="about:blank")
    title: str
    status: int
    code: str = Field(description="Stable: programs decide by this.")
    detail: str = Field(description="For people: what happened and what to do.")
    fields: list[FieldProblem] = []


class ApiProblem(SpineError):
    """A route refuses: it becomes the problem document of `status`."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep what the document will say."""
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(f"{status} {code}: {detail}")


def respond(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    fields: list[FieldProblem] | None = None,
) -> JSONResponse:
    """Make the response of a problem."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        fields=fields or [],
    )
    return JSONResponse(
        problem.model_dump(), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses in OpenAPI as problem documents."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def problem_schemas() -> dict[str, Any]:
    """Give the schemas that `documented` refers to, by name."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return {**parts, "Problem": schema}


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    _catch(app, ApiProblem, _refusal)
    _catch(app, RequestValidationError, _invalid)
    _catch(app, WebSocketRequestValidationError, _invalid)
    _catch(app, HTTPException, _http)
    _catch(app, DatabaseAway, _away)
    _catch(app, TransactionClash, _away)


Error = TypeVar("Error", bound=Exception)


def _catch(app: FastAPI, kind: type[Error], write: Callable[[Error], JSONResponse]) -> None:
    async def answer(asked: Any, error: Any) -> Any:
        response = write(error)
        if isinstance(asked, WebSocket):
            # Only before the connection is accepted: a problem then refuses the upgrade.
            await asked.send_denial_response(response)
            return None
        return response

    app.add_exception_handler(kind, answer)


def _refusal(error: ApiProblem) -> JSONResponse:
    return respond(error.status, error.code, error.detail, error.headers)


def _away(_error: SpineError) -> JSONResponse:
    detail = "The database is away. Nothing is lost; try again in a few seconds."
    return respond(503, "database_away", detail, {"Retry-After": "2"})


def _invalid(error: ValidationException) -> JSONResponse:
    fields = [
        FieldProblem(place=".".join(map(str, each["loc"])), detail=str(each["msg"]))
        for each in error.errors()[:20]
    ]
    detail = "; ".join(f"{field.place}: {field.detail}" for field in fields)
    return respond(422, "invalid_request", detail, fields=fields)


_HTTP: Final = {
    404: ("not_found", "Nothing is served at this path. See /api/openapi.json."),
    405: ("method_not_allowed", "This path does not serve this method. See the Allow header."),
}


def _http(error: HTTPException) -> JSONResponse:
    code, detail = _HTTP.get(error.status_code, ("http_error", str(error.detail)))
    return respond(error.status_code, code, detail, error.headers)
