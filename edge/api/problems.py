"""Errors of the local API as RFC 9457 problems: every code there is, and which error becomes which.

::

    ApiProblem            a route says no: a code of `CODES`, a sentence of what to do
    errors of the gateway those of `REFUSALS`, by their class
    validation            FastAPI's own error on input, told field by field; values are not repeated
    404, 405, …           Starlette's, for paths and methods nobody serves
    anything else         a defect: `edge.api.guard` logs it and answers `defect`, and no more
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import (
    RequestValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from edge.backup import BackupFailed
from edge.commands import CommandsUnwritable, CommandWrong, IdTaken, TooMany
from edge.config_store import ConfigUnwritable
from edge.enrolment import EnrolmentRefused
from edge.field.browsing import NotBrowsed, TooManyBrowse
from edge.field.checkout import CheckOutRefused
from edge.field.jobs import JobsBusy
from edge.field.looks import TooManyLooks
from edge.live import TooManyWatch
from edge.secret_store import SecretRefused
from edge.twin import ConfigRefused, Conflict
from edge.vault import VaultClosed
from shared.errors import LinkLost, OptionsWrong, Refused, SettingsError, SpineError

MEDIA_TYPE: Final = "application/problem+json"
MOST_FIELDS: Final = 100
MOST_TEXT: Final = 2_000

CODES: Final[Mapping[str, tuple[int, str]]] = {
    "bad_request": (400, "The request cannot be read, such as a body that is no JSON."),
    "not_signed_in": (401, "No session, or one that is over: open a link of `spine-edge api link`"),
    "login_refused": (401, "The link or password is not valid (any more)."),
    "not_allowed": (403, "The session's role may only look."),
    "local_only": (403, "Only the command line on the gateway itself may do this."),
    "foreign_origin": (403, "The request comes from a page of another site."),
    "not_found": (404, "There is no such thing, or nothing is served at this path."),
    "method_not_allowed": (405, "The path does not serve this method; see the `Allow` header."),
    "too_slow": (408, "The request's body took too long to arrive."),
    "name_taken": (409, "There is a device of this name, or a point of this key, elsewhere."),
    "secret_locked": (409, "A secret was sealed under another master key: set it anew."),
    "revision_moved": (412, "The configuration changed since it was read: look again."),
    "too_large": (413, "The body is larger than this path takes."),
    "unknown_host": (421, "The `Host` is none of this gateway's; see `gateway.api.allowed_hosts`."),
    "invalid_request": (422, "A field of the request is missing or wrong; `fields` says which."),
    "configuration_refused": (422, "The configuration would be wrong; `fields` says where."),
    "options_wrong": (422, "Options of a driver or template cannot work."),
    "secret_refused": (422, "A secret has a name or value that cannot be kept."),
    "rows_invalid": (422, "A file has rows that cannot be taken; nothing was changed."),
    "command_wrong": (422, "What was sent is no command, or nobody knows it."),
    "id_taken": (409, "Another command has this id: give each an id of its own."),
    "points_wrong": (422, "A check-out has no points, or names some that are not configured."),
    "checkout_unknown": (404, "There is no such check-out."),
    "point_unknown": (404, "The check-out has no such point."),
    "checkout_closed": (409, "The check-out is closed: open it again to go on with it."),
    "no_value": (409, "The gateway shows no value to hold against."),
    "expected_missing": (422, "Say what is expected, or give the verdict yourself."),
    "expected_wrong": (422, "What is expected does not fit the type of the point."),
    "verdict_contradicts": (409, "The value is not what is expected, so it cannot pass."),
    "sheet_wrong": (422, "A file cannot be read as a table of points."),
    "backup_refused": (422, "A backup cannot be made so, such as with a short pass phrase."),
    "revision_needed": (428, "A change names the revision it is made for, in `If-Match`."),
    "too_many_tries": (429, "Too many wrong passwords; `Retry-After` says how long to wait."),
    "http_error": (400, "Anything else that HTTP itself refuses."),
    "defect": (500, "A defect of the gateway; its log tells more. Readings go on."),
    "device_refused": (502, "The device answers and says no."),
    "device_away": (502, "The device does not answer."),
    "central_refused": (502, "Central refuses, or cannot be reached."),
    "busy": (503, "The gateway serves as many requests as it takes; try again soon."),
    "too_many": (503, "There are as many of these as the gateway keeps; end one first."),
    "commands_off": (503, "Commands are off: their record cannot be used; the log tells why."),
    "no_room": (507, "The disk takes no writes; nothing was changed."),
}

REFUSALS: Final[Mapping[type[SpineError], str]] = {
    Conflict: "revision_moved",
    SecretRefused: "secret_refused",
    VaultClosed: "secret_locked",
    ConfigUnwritable: "no_room",
    BackupFailed: "backup_refused",
    EnrolmentRefused: "central_refused",
    TooManyWatch: "too_many",
    TooManyLooks: "too_many",
    TooManyBrowse: "too_many",
    TooMany: "too_many",
    JobsBusy: "too_many",
    NotBrowsed: "not_found",
    CommandWrong: "command_wrong",
    IdTaken: "id_taken",
    CommandsUnwritable: "no_room",
    OptionsWrong: "options_wrong",
    LinkLost: "device_away",
    Refused: "device_refused",
}
"""Errors of the gateway whose text is fit for the caller, by the code they become."""


class FieldProblem(BaseModel):
    """What is wrong with one field of a request or one place of the configuration."""

    place: str = Field(description="Where: `query.limit`, `devices[3].points[2].unit`, …")
    detail: str


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field(default="about:blank")
    title: str
    status: int
    code: str = Field(description="Stable: programs decide by this.")
    detail: str = Field(description="For people: what happened and what to do.")
    fields: list[FieldProblem] = []


class ApiProblem(SpineError):
    """A route refuses; the code decides the status."""

    def __init__(
        self,
        code: str,
        detail: str,
        fields: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the document will say."""
        self.code = code
        self.detail = detail
        self.fields = list(fields)
        self.headers = dict(headers or {})
        super().__init__(f"{code}: {detail}")


def respond(problem: ApiProblem, status: int | None = None) -> JSONResponse:
    """Make the response of a problem; the status is that of its code unless told otherwise."""
    status = status or CODES[problem.code][0]
    document = ProblemDocument(
        title=HTTPStatus(status).phrase,
        status=status,
        code=problem.code,
        detail=_told(problem.detail),
        fields=[
            FieldProblem(place=_told(one.place), detail=_told(one.detail))
            for one in problem.fields[:MOST_FIELDS]
        ],
    )
    return JSONResponse(
        document.model_dump(), status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def _told(text: str) -> str:
    # A text of the caller's may hold half a character, which no answer can carry.
    return text[:MOST_TEXT].encode("utf-8", "replace").decode()


def documented() -> dict[int | str, dict[str, Any]]:
    """Describe in OpenAPI that every other answer is a problem document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    problem = {"description": "A problem; its code tells which.", "content": content}
    return {"default": problem, 422: {**problem, "description": "The request is wrong."}}


def problem_schemas() -> dict[str, Any]:
    """Give the schemas that `documented` refers to, by name."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return {**parts, "ProblemDocument": schema}


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    _catch(app, ApiProblem, respond)
    _catch(app, RequestValidationError, _invalid)
    _catch(app, WebSocketRequestValidationError, _invalid)
    _catch(app, HTTPException, _http)
    _catch(app, ConfigRefused, _wrong_configuration)
    _catch(app, SettingsError, _wrong_options)
    _catch(app, CheckOutRefused, lambda error: respond(ApiProblem(error.code, str(error))))
    for kind, code in REFUSALS.items():
        _catch(app, kind, _refusal(code))
    # Starlette answers with this and raises the defect on, to the guard, which logs it.
    app.add_exception_handler(Exception, _defect)


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


def _refusal(code: str) -> Callable[[SpineError], JSONResponse]:
    return lambda error: respond(ApiProblem(code, str(error)))


def _wrong_configuration(error: ConfigRefused) -> JSONResponse:
    fields = [FieldProblem(place=one.path, detail=one.text) for one in error.problems]
    return respond(ApiProblem("configuration_refused", str(error), fields))


def _wrong_options(error: SettingsError) -> JSONResponse:
    return respond(ApiProblem("options_wrong", str(error)))


def _invalid(error: ValidationException) -> JSONResponse:
    fields = [
        FieldProblem(place=".".join(map(str, each["loc"])), detail=str(each["msg"]))
        for each in error.errors()[:MOST_FIELDS]
    ]
    detail = "; ".join(f"{field.place}: {field.detail}" for field in fields[:10])
    return respond(ApiProblem("invalid_request", detail, fields))


DEFECT: Final = "This is a defect of the gateway; its log tells more."


async def _defect(_: Request, __: Exception) -> JSONResponse:
    return respond(ApiProblem("defect", DEFECT))


_HTTP: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
}


def _http(error: HTTPException) -> JSONResponse:
    code = _HTTP.get(error.status_code, "http_error")
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:
        detail = CODES[code][1]
    return respond(ApiProblem(code, detail, headers=error.headers), error.status_code)
