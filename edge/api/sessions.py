"""Signing in and out, the sessions there are, and the passwords of roles."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from edge.api.access import LOCAL, OPEN, TECHNICIAN, VIEWER, Caller, Viewer
from edge.api.context import Here
from edge.api.door import LINK_S, LONGEST_S, Role, Session
from edge.api.guard import COOKIE
from edge.api.problems import ApiProblem
from edge.api.words import Moment, moment

router = APIRouter(prefix="/api/v1", tags=["session"])

Password = Annotated[str, Field(min_length=10, max_length=200, description="10 to 200 characters.")]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LinkGiven(_Given):
    """The token of a one-time link."""

    token: str = Field(min_length=1, max_length=100)


class PasswordGiven(_Given):
    """A role and its password."""

    role: Role = Role.TECHNICIAN
    password: str = Field(min_length=1, max_length=200)


class NewPassword(_Given):
    """A password to set."""

    password: Password


class LinkWanted(_Given):
    """For which role a link is."""

    role: Role = Role.TECHNICIAN


class SessionTold(BaseModel):
    """A session as people see it."""

    number: int = Field(description="Names the session; 0 is the gateway's own command line.")
    role: Role
    peer: str = Field(description="The address it began from.")
    agent: str = Field(description="What the program said of itself.")
    began_at: Moment | None
    is_this: bool = Field(description="Whether it is the caller's own.")


class SessionList(BaseModel):
    """The sessions that are open."""

    sessions: list[SessionTold]
    roles_with_password: list[Role]


class LinkTold(BaseModel):
    """A one-time link."""

    token: str
    path: str = Field(description="What follows the gateway's address; a `#` keeps it out of logs.")
    valid_s: float


@router.post("/session/link", dependencies=[OPEN])
async def sign_in_by_link(
    given: LinkGiven, request: Request, response: Response, here: Here
) -> SessionTold:
    """Use a one-time link up and begin a session."""
    token, session = here.door.enter_by_link(given.token, *_peer(request))
    return _begun(request, response, token, session)


@router.post("/session/password", dependencies=[OPEN])
async def sign_in_by_password(
    given: PasswordGiven, request: Request, response: Response, here: Here
) -> SessionTold:
    """Sign in with the password of a role."""
    token, session = await here.door.enter_by_password(given.role, given.password, *_peer(request))
    return _begun(request, response, token, session)


@router.get("/session", dependencies=[VIEWER])
async def this_session(caller: Viewer) -> SessionTold:
    """Tell who is signed in."""
    return _told(caller.session, caller)


@router.delete("/session", status_code=204, dependencies=[VIEWER])
async def sign_out(caller: Viewer, response: Response) -> None:
    """End this session."""
    if caller.session is not None:
        caller.session.is_ended = True
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


@router.get("/sessions", dependencies=[TECHNICIAN])
async def list_sessions(caller: Viewer, here: Here) -> SessionList:
    """List the sessions that are open."""
    sessions = [_told(one, caller) for one in here.door.sessions()]
    return SessionList(sessions=sessions, roles_with_password=await here.door.roles_with_password())


@router.delete("/sessions/{number}", status_code=204, dependencies=[TECHNICIAN])
async def end_session(number: int, here: Here) -> None:
    """End a session of anybody."""
    if not here.door.end(number):
        raise ApiProblem("not_found", f"There is no session {number}.")


@router.put("/passwords/{role}", status_code=204, dependencies=[TECHNICIAN])
async def set_password(role: Role, given: NewPassword, here: Here) -> None:
    """Set the password of a role; all sessions of the role end, and each signs in anew."""
    await here.door.set_password(role, given.password)


@router.delete("/passwords/{role}", status_code=204, dependencies=[TECHNICIAN])
async def remove_password(role: Role, here: Here) -> None:
    """Take the password of a role away; all its sessions end, and links are the only way in."""
    await here.door.set_password(role, None)


@router.post("/links", status_code=201, dependencies=[LOCAL])
async def make_link(given: LinkWanted, here: Here) -> LinkTold:
    """Make a one-time link for signing in."""
    token = here.door.link(given.role)
    return LinkTold(token=token, path=f"/#link={token}", valid_s=LINK_S)


def _begun(request: Request, response: Response, token: str, session: Session) -> SessionTold:
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(LONGEST_S),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return _told(session, Caller(session.role, session))


def _peer(request: Request) -> tuple[str, str]:
    host = request.client.host if request.client else ""
    return host, request.headers.get("user-agent", "")


def _told(session: Session | None, caller: Caller) -> SessionTold:
    if session is None:
        return SessionTold(
            number=0, role=caller.role, peer="", agent="spine-edge", began_at=None, is_this=True
        )
    return SessionTold(
        number=session.number,
        role=session.role,
        peer=session.peer,
        agent=session.agent,
        began_at=moment(session.began_us),
        is_this=session is caller.session,
    )
