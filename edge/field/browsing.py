"""Browsing: connections kept for a while, so that folders and pages come quickly.

Each is held by a task of its own, which opens it, answers one question after the other and closes
it when nobody asked for a while.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from edge.field.known import KnownPoints, points_at
from edge.field.looks import within
from edge.field.target import Target
from edge.settings import Device
from protocols.driver import Browsing, Node, Page
from shared.errors import DriverError, LinkLost, OptionsWrong, SpineError
from shared.logs import get

MOST: Final = 4
IDLE_S: Final = 60.0
OPEN_S: Final = 30.0
PAGE_S: Final = 60.0
LIMIT: Final = 1_000
"""Nodes on one page at most."""

_log = get("field")


class TooManyBrowse(SpineError):
    """As many devices are browsed as the gateway has room for."""


class NotBrowsed(SpineError):
    """There is no such browse session: it was idle for too long, or its connection was lost."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A node, and the key of the point that reads it already, empty where none does."""

    node: Node
    known_as: str


@dataclass(frozen=True, slots=True)
class SeenPage:
    """Nodes of one page; `session` continues, `cursor` is the next page, empty at the end."""

    session: str
    nodes: tuple[Seen, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: the nodes below `parent`, from `cursor` on."""

    parent: str = ""
    cursor: str = ""
    limit: int = 200


@dataclass(slots=True)
class _Session:
    target: Target
    questions: asyncio.Queue[tuple[Question, asyncio.Future[Page]]] = field(
        default_factory=lambda: asyncio.Queue(1)
    )
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    problem: Exception | None = None


class Browser:
    """Holds the browse sessions; leaving it closes them."""

    def __init__(self, most: int = MOST, idle_s: float = IDLE_S) -> None:
        """Allow so many sessions at once, each idle for so long."""
        self._most = most
        self._idle_s = idle_s
        self._sessions: dict[str, _Session] = {}
        self._tasks = asyncio.TaskGroup()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Be ready."""
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every session."""
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def sessions(self) -> int:
        """Count the sessions that are open."""
        return len(self._sessions)

    async def begin(
        self, target: Target, question: Question, devices: Sequence[Device]
    ) -> SeenPage:
        """Open a session beside whatever runs and answer its first question.

        Raises `TooManyBrowse`, `OptionsWrong` where the driver cannot browse, and what the driver
        raises.
        """
        if len(self._sessions) >= self._most:
            raise TooManyBrowse(f"{self._most} devices are browsed already: close one of them")
        name, session = secrets.token_urlsafe(12), _Session(target)
        self._sessions[name] = session
        task = self._running[name] = self._tasks.create_task(self._held(session))
        task.add_done_callback(lambda _: self._ended(name))
        try:
            return await self.look(name, question, devices)
        except BaseException:
            self.end(name)
            raise

    async def look(self, name: str, question: Question, devices: Sequence[Device]) -> SeenPage:
        """Answer another question of a session. Raises as `begin`, and `NotBrowsed`."""
        session = self._sessions.get(name)
        if session is None:
            raise NotBrowsed("this browse session has ended: begin again")
        async with within(OPEN_S + PAGE_S), session.turn:
            page = await self._asked(session, question)
        known = points_at(devices, session.target.driver, session.target.options)
        return SeenPage(name, _marked(page, known), page.cursor)

    def end(self, name: str) -> None:
        """Close a session; one that is not there is closed already."""
        task = self._running.get(name)
        if task is not None:
            task.cancel()

    async def _asked(self, session: _Session, question: Question) -> Page:
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        ending = asyncio.get_running_loop().create_task(session.ended.wait())
        try:
            if session.questions.full():
                raise TooManyBrowse("the device still answers the question before: wait for it")
            session.questions.put_nowait((question, answer))
            await asyncio.wait((answer, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not answer.done():
                answer.cancel()
        if not answer.cancelled():
            return answer.result()
        raise session.problem or NotBrowsed("this browse session has ended: begin again")

    async def _held(self, session: _Session) -> None:
        try:
            async with within(OPEN_S) as opening, _browsing(session.target) as driver:
                opening.reschedule(None)
                await self._answer(driver, session)
        except DriverError as error:
            session.problem = error
        except Exception as error:  # noqa: BLE001 - a defect of one driver ends one session
            _log.exception("driver failed", driver=session.target.driver.name)
            session.problem = LinkLost(f"the driver failed: {type(error).__name__}: {error}")

    def _ended(self, name: str) -> None:
        self._sessions.pop(name).ended.set()
        del self._running[name]

    async def _answer(self, driver: Browsing, session: _Session) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    question, answer = await session.questions.get()
            except TimeoutError:
                return
            if answer.done():  # who asked has gone away
                continue
            try:
                async with within(PAGE_S):
                    page = await driver.browse(
                        question.parent, question.cursor, min(question.limit, LIMIT)
                    )
            except OptionsWrong as error:  # a wrong parent or cursor; the connection is good
                _tell(answer, error)
            except DriverError as error:
                _tell(answer, error)
                raise
            else:
                if not answer.done():
                    answer.set_result(page)


@asynccontextmanager
async def _browsing(target: Target) -> AsyncIterator[Browsing]:
    driver = target.beside()
    if not isinstance(driver, Browsing):
        title = target.driver.title or target.driver.name
        msg = f"{title}: its devices do not tell what they have; use a template, or a manual"
        raise OptionsWrong(msg)
    async with driver:
        yield driver


def _tell(answer: asyncio.Future[Page], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _marked(page: Page, known: KnownPoints) -> tuple[Seen, ...]:
    return tuple(Seen(one, known.key_of(one.source)) for one in page.nodes)
