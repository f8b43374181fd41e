"""Signing in: a one-time link becomes a session cookie; signing out ends the session."""

from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from central.access import COOKIE, LONGEST_SECRET, AnyCaller, Doorkeeper, open_to_all
from central.application.page import content_policy
from central.problems import ApiProblem, documented
from central.storage.catalogue import end_session, redeem_login
from central.storage.database import Pool

COOKIE_AGE_S: Final = 12 * 3_600
_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class SessionOut(BaseModel):
    """Who is signed in."""

    project: str
    by: str = Field(description="session (a signed-in person) or key (a program).")
    expires_at: datetime | None


def check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for: its Origin is not the Host."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise ApiProblem(403, "foreign_origin", "Changes are only taken from central's own page.")


def routes(pool: Pool) -> APIRouter:
    """Make the routes of signing in and out."""
    router = APIRouter(tags=["session"])
    spent_page = (files("central.application") / "ui" / "login_spent.html").read_text("utf-8")

    @router.get(
        "/login",
        dependencies=[open_to_all],
        status_code=303,
        response_class=RedirectResponse,
        responses=_login_answers(),
    )
    async def login(
        request: Request, token: Annotated[str, Query(min_length=1, max_length=LONGEST_SECRET)]
    ) -> Response:
        """Turn a one-time token into a session; a token works once, for 15 minutes.

        Who is signed in already and opens a spent link again goes on to the page.
        """
        secret = await redeem_login(pool, token)
        if secret is None:
            return await _spent(request, spent_page)
        response = RedirectResponse("/", 303, headers=_PRIVATE)
        response.set_cookie(COOKIE, secret, **_cookie(request), max_age=COOKIE_AGE_S)
        return response

    @router.post(
        "/logout",
        dependencies=[open_to_all, Depends(check_origin)],
        status_code=204,
        responses=documented(403, 503),
    )
    async def logout(request: Request) -> Response:
        """End the session of this cookie; without one there is nothing to do."""
        secret = request.cookies.get(COOKIE, "")
        if 0 < len(secret) <= LONGEST_SECRET:
            await end_session(pool, secret)
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, **_cookie(request))
        return response

    @router.get("/api/v1/session", responses=documented(401, 503))
    async def session(caller: AnyCaller) -> SessionOut:
        """Tell who is signed in, and of which project."""
        return SessionOut(project=caller.project, by=caller.by, expires_at=caller.expires_at)

    return router


def _login_answers() -> dict[int | str, dict[str, Any]]:
    answers = documented(403, 422, 503)
    answers[403]["content"]["text/html"] = {"schema": {"type": "string"}}
    return answers


async def _spent(request: Request, page: str) -> Response:
    """Answer a link that opens nothing: on to the page, a page for people, else a problem."""
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    caller = await doorkeeper.caller(request)
    if caller is not None and caller.by == "session":
        return RedirectResponse("/", 303, headers=_PRIVATE)
    if "text/html" in request.headers.get("accept", "").lower():
        policy = {"Content-Security-Policy": content_policy(page)}
        return HTMLResponse(page, 403, headers=_PRIVATE | policy)
    raise ApiProblem(
        403,
        "login_spent",
        "This login link was used already, has expired or never was. Make a new one: "
        "python -m central login",
    )


def _cookie(request: Request) -> dict[str, Any]:
    return {
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
        "path": "/",
    }
