"""Signing in: a one-time link becomes a session cookie; signing out ends the session."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from central.access import COOKIE, LONGEST_SECRET, AnyCaller, open_to_all
from central.problems import ApiProblem, documented
from central.storage.catalogue import end_session, redeem_login
from central.storage.database import Pool

COOKIE_AGE_S: Final = 12 * 3_600


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

    @router.get(
        "/login",
        dependencies=[open_to_all],
        status_code=303,
        response_class=RedirectResponse,
        responses=documented(403, 422, 503),
    )
    async def login(
        request: Request, token: Annotated[str, Query(min_length=1, max_length=LONGEST_SECRET)]
    ) -> Response:
        """Turn a one-time token into a session; a token works once, for 15 minutes."""
        secret = await redeem_login(pool, token)
        if secret is None:
            raise ApiProblem(
                403,
                "login_spent",
                "This login link was used already, has expired or never was. Make a new one: "
                "python -m central login",
            )
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, secret, **_cookie(request), max_age=COOKIE_AGE_S)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
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


def _cookie(request: Request) -> dict[str, Any]:
    return {
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
        "path": "/",
    }
