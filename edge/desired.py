"""What central wants the configuration to be, and what the gateway reports of it.

Who wins is decided by revisions and hashes alone: what was changed here stays until central says
that it knows of it (`base`), or a person here accepts what central wants.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from edge import schemas
from edge.config_store import ConfigUnwritable
from edge.document import NotJson, hash_of, plain
from edge.twin import ConfigRefused, Twin
from protocols import registry
from shared import link
from shared.errors import OptionsWrong, SpineError
from shared.logs import get
from shared.settings import Problem

CENTRAL: Final = "central"
PROBLEMS: Final = 200
"""The most problems that one report lists."""

MUTED_S: Final = 86_400.0
"""A central that does not serve reports is tried again after this time."""

AGAIN_S: Final = 3_600.0
"""A document that was proposed is sent again at the earliest after this time: it may be large."""

_log = get("desired")


class Became(StrEnum):
    """What became of the revision of central that a report speaks of."""

    APPLIED = "applied"
    FAILED = "failed"
    CONFLICT = "conflict"
    REVERTED = "reverted"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one revision of central."""

    revision: int
    became: Became
    problems: tuple[Problem, ...] = ()


class Desires:
    """The configuration's end of the link; it implements `edge.uplink.Configuration`."""

    def __init__(self, twin: Twin) -> None:
        """Speak for `twin`."""
        self._twin = twin
        self._wanted: link.Desired | None = None
        self._is_wanted = asyncio.Event()
        self._is_due = asyncio.Event()
        self._result = _start(twin)
        self._is_connected = asyncio.Event()
        self._schemas: dict[str, Any] = {}
        self._muted_until_s = 0.0
        self._sent: tuple[bytes, float] = (b"", 0.0)
        twin.listeners.append(self._is_due.set)

    @property
    def revision(self) -> int:
        """The newest revision of central that was agreed on."""
        return self._twin.agreed.revision

    def connected(self) -> None:
        """Report anew: a session began."""
        self._is_connected.set()
        self._is_due.set()

    def want(self, frame: link.Desired) -> None:
        """Take what central wants; only the newest counts."""
        self._wanted = frame
        self._muted_until_s = 0.0
        self._is_wanted.set()

    def unsupported(self) -> None:
        """Report no more for a day, or until central wants something."""
        self._muted_until_s = self._twin.clock.monotonic_s() + MUTED_S

    async def report(self) -> link.Reported:
        """Wait until there is something to report, and say it."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            if self._twin.clock.monotonic_s() >= self._muted_until_s:
                return await asyncio.to_thread(self._reported)

    async def run(self) -> None:
        """Do what central wants, for ever; and learn once what drivers there are."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._learn())
            await self._obey()

    async def _learn(self) -> None:
        await self._is_connected.wait()
        self._schemas = await schemas.all_schemas(self._twin.secrets.store)
        if self._schemas:
            self._is_due.set()

    async def _obey(self) -> None:
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                self._result = await self._taken(wanted)
                self._is_due.set()

    async def _taken(self, frame: link.Desired) -> Result:
        """Decide on what central wants, and do it."""
        kept, objection = await asyncio.to_thread(self._looked_at, frame)
        if objection:
            _log.error("what central wants is refused", revision=frame.revision, problem=objection)
            return Result(frame.revision, Became.FAILED, (Problem((), objection),))
        if not self._may_replace(frame, kept):
            return await self._put_off(frame)
        try:
            await self._twin.apply(
                frame.document, source=CENTRAL, reason=f"revision {frame.revision} of central",
                central=frame.revision,
            )  # fmt: skip
        except ConfigRefused as error:
            return Result(frame.revision, Became.FAILED, error.problems)
        except SpineError as error:
            return Result(frame.revision, Became.FAILED, (Problem((), str(error)),))
        return Result(frame.revision, Became.APPLIED)

    def _looked_at(self, frame: link.Desired) -> tuple[bytes, str]:
        """Tell the hash of what would be kept, and why it is not; nothing where it may be."""
        try:
            if hash_of(frame.document) != frame.hash:
                return b"", "the hash is not that of the document"
            kept = hash_of(self._twin.secrets.concealed(plain(frame.document)))
        except (NotJson, SpineError) as error:
            return b"", str(error)
        return kept, self._objection(frame.revision, kept)

    def _objection(self, revision: int, kept: bytes) -> str:
        agreed, refused = self._twin.agreed, self._twin.refused
        if (revision, kept) == (refused.revision, refused.hash):
            return "the link did not come back after it: it was tried and taken back"
        if revision < agreed.revision:
            return f"it is older than revision {agreed.revision}, which was agreed on"
        if revision == agreed.revision and kept != agreed.hash:
            return "this revision had another content before"
        return ""

    def _may_replace(self, frame: link.Desired, kept: bytes) -> bool:
        """Tell whether central knows what it replaces, or there is nothing to lose."""
        current = self._twin.current
        if current.hash in {kept, frame.base}:
            return True
        is_untouched = not self._twin.is_ahead
        return is_untouched or not (self.revision or current.document.get("devices"))

    async def _put_off(self, frame: link.Desired) -> Result:
        """Keep it for a person here: central may not know of what was changed on site."""
        if frame.revision == self.revision:
            return Result(frame.revision, Became.APPLIED)
        problems = await asyncio.to_thread(self._twin.check, frame.document)
        if problems:
            return Result(frame.revision, Became.FAILED, tuple(problems))
        text = f"revision {frame.revision} of central, which does not know of the changes here"
        try:
            await self._twin.propose(
                frame.document, source=CENTRAL, reason=text, central=frame.revision
            )
        except ConfigUnwritable as error:
            return Result(frame.revision, Became.FAILED, (Problem((), str(error)),))
        _log.warning("central wants another configuration than was made here: it waits as a "
                     "proposal", revision=frame.revision)  # fmt: skip
        text = "it was made without knowing of the document in force here"
        return Result(frame.revision, Became.CONFLICT, (Problem((), text),))

    def _reported(self) -> link.Reported:
        twin, result = self._twin, self._result
        if twin.refused.revision and result.became is Became.APPLIED:
            result = _start(twin)
        head = twin.current.head
        sections = {
            "configuration": {
                "state": result.became.value,
                "number": head.number,
                "hash": head.hash,
                "source": head.source,
                "problems": _listed(result.problems),
                "left_out": _listed(twin.problems),
            },
            "policies": _section("policies", result),
            "devices": _section("devices", result),
            "proposal": self._proposal() if twin.is_ahead else None,
            "drivers": _drivers({one.driver.name for one in twin.devices}, self._schemas),
        }
        return link.Reported(revision=max(result.revision, self.revision), sections=sections)

    def _proposal(self) -> dict[str, Any]:
        head, now_s = self._twin.current.head, self._twin.clock.monotonic_s()
        told = {"base": self._twin.agreed.revision, "hash": head.hash, "reason": head.reason}
        hash_, again_s = self._sent
        document = None
        if hash_ != head.hash or now_s >= again_s:
            self._sent = (head.hash, now_s + AGAIN_S)
            document = dict(self._twin.current.document)
        return {**told, "source": head.source, "document": document}


def _start(twin: Twin) -> Result:
    """Say what is known before central has said anything."""
    if twin.refused.revision:
        text = "the link did not come back after it: the last good configuration is in force"
        return Result(twin.refused.revision, Became.REVERTED, (Problem((), text),))
    became = Became.APPLIED if twin.agreed.revision else Became.NONE
    return Result(twin.agreed.revision, became)


def _section(name: str, result: Result) -> dict[str, Any]:
    own = [one for one in result.problems if not one.place or one.place[0] == name]
    return {"state": result.became.value, "problems": _listed(own)}


def _listed(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [{"path": one.path, "text": one.text} for one in problems[:PROBLEMS]]


def _drivers(used: set[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the drivers: by what was learnt, or where they are loaded anyway; else the name."""
    return {name: known.get(name) or _described(name, used) for name in _names(used)}


def _described(name: str, used: set[str]) -> dict[str, Any]:
    return schemas.schemas_of(registry.find(name)) if name in used else {}


def _names(used: set[str]) -> list[str]:
    try:
        return sorted({*registry.names(), *used})
    except OptionsWrong:
        return sorted(used)
