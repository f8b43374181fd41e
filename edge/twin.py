"""The configuration twin: which document is in force, how it came about, and how it is changed.

A change is checked as a whole, stored, carried out, and only then in force; if any of that fails,
nothing has changed. What is decided is decided by revisions, never by clocks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from edge.agreement import Agreed, Step, Trial
from edge.config_store import (
    FILE_NAME,
    KEPT,
    ConfigDamaged,
    Head,
    Revision,
    State,
)
from edge.document import NotJson, hash_of, plain, problems_in
from edge.first_revision import begin, put_aside
from edge.proposals import Answered, Proposal, keep, note_answer, open_proposals
from edge.secret_store import Secrets
from edge.settings import Device
from edge.vault import Vault
from shared.clock import Clock
from shared.errors import SpineError
from shared.logs import get
from shared.settings import Problem

REASON_LENGTH: Final = 500
CLOSE_S: Final = 5.0
"""How long a stop waits for a change that is under way."""

Change = Callable[[Sequence[Device]], Awaitable[list[str]]]
"""Reads these devices from now on, and tells which were started; raises a `SpineError`."""

T = TypeVar("T")

_log = get("twin")


class ConfigRefused(SpineError):
    """A document is wrong, or could not be carried out; `problems` lists everything."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep every problem with its path."""
        self.problems = tuple(problems)
        told = [str(one) for one in self.problems]
        super().__init__("\n".join([f"the configuration has {len(told)} problem(s)", *told]))


class Conflict(SpineError):
    """A change was made for another revision than the one in force."""

    def __init__(self, base: int, current: int) -> None:
        """Keep both numbers."""
        self.base, self.current = base, current
        super().__init__(
            f"made for revision {base}, but revision {current} is in force: look again"
        )


@dataclass(slots=True)
class Twin:
    """The gateway's end of the configuration."""

    secrets: Secrets
    clock: Clock
    current: Revision
    devices: tuple[Device, ...]
    problems: list[Problem]
    """What is wrong with the stored document by now, such as a driver that is not installed."""
    change: Change | None = None
    """Carries a change out; None while no device is read."""
    revert_after_s: float = 0.0
    """How long the link may stay away after a change of central; 0 for ever."""
    agreed: Agreed = field(default_factory=Agreed)
    refused: Agreed = field(default_factory=Agreed)
    """The revision of central that was tried and taken back."""
    trial: Trial | None = None
    portion_s: float = 0.0
    """What was taken off the trial when it, or this process, began."""
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Called when the revision in force, or what is agreed on, is another one."""
    _heads: dict[int, Head] = field(default_factory=dict)
    _proposals: list[Proposal] = field(default_factory=list)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _works: set[asyncio.Task[Any]] = field(default_factory=set)

    @classmethod
    async def opened(
        cls,
        folder: Path,
        file: Mapping[str, Any] | None,
        clock: Clock,
        vault: Vault | None = None,
    ) -> Self:
        """Open the configuration in `folder`; `file` is the document of `gateway.yaml`, if any.

        A database that is damaged is put aside, and the file's document is all there is. `vault`
        is that of the folder unless told otherwise.
        """
        path = folder / FILE_NAME
        try:
            return await asyncio.to_thread(cls._started, path, file, clock, vault)
        except ConfigDamaged as error:
            kept_at = await asyncio.to_thread(put_aside, path, clock)
            _log.error(
                "the configuration was damaged; what gateway.yaml says is taken instead",
                error=str(error),
                kept_at=str(kept_at),
            )
            return await asyncio.to_thread(cls._started, path, file, clock, vault)

    @classmethod
    def _started(
        cls, path: Path, file: Mapping[str, Any] | None, clock: Clock, vault: Vault | None
    ) -> Self:
        secrets, current = begin(path, file, clock, vault)
        store = secrets.store
        devices, problems = secrets.devices_in(current.document)
        for problem in problems:
            _log.error("a device is left out", problem=str(problem))
        heads = {head.number: head for head in store.heads()}
        twin = cls(secrets, clock, current, devices, problems)
        twin.agreed = Agreed.of(store.fact("agreed"))
        twin.refused = Agreed.of(store.fact("refused"))
        twin._go_on_trial(Trial.of(store.fact("trial")))
        twin._heads, twin._proposals = heads, open_proposals(store)
        return twin

    def _go_on_trial(self, trial: Trial | None) -> None:
        """Take the first portion off at once: crashes do not prolong a trial."""
        if trial is not None:
            self.portion_s, self.trial = trial.portion_s(), trial.without_portion()
            self.secrets.store.note({"trial": self.trial.fact()})

    async def close(self) -> None:
        """Wait a moment for the change that is under way, and close the database.

        A change that did not get to its end did not happen.
        """
        works = set(self._works)
        if works:
            _, late = await asyncio.wait(works, timeout=CLOSE_S)
            for work in late:
                work.cancel()
            await asyncio.wait(works)
        await asyncio.to_thread(self.secrets.store.close)

    def check(self, document: Any) -> list[Problem]:
        """Find everything that is wrong with a document."""
        try:
            document = plain(document)
        except NotJson as error:
            return [Problem((), str(error))]
        known = self.secrets.missing(document)
        return [*known, *problems_in(self.secrets.revealed(document))]

    async def keep_secret(self, name: str, value: str) -> None:
        """Keep a secret under a name; the devices that refer to it start anew with it.

        Raises `SecretRefused` or `ConfigRefused`.
        """
        await self._uncut(self._kept_secret(name, value))

    async def _kept_secret(self, name: str, value: str) -> None:
        async with self._changing:
            await asyncio.to_thread(self.secrets.put, name, value)
            document = self.current.document
            devices, problems = await asyncio.to_thread(self.secrets.devices_in, document)
            if self.change is not None:
                await self.change(devices)
            self.devices, self.problems = devices, problems

    def history(self) -> list[Head]:
        """List the revisions, newest first."""
        return sorted(self._heads.values(), key=lambda head: -head.number)

    def proposals(self) -> list[Proposal]:
        """List the proposals that wait for a decision, oldest first."""
        return list(self._proposals)

    async def revision(self, number: int) -> Revision | None:
        """Read a revision with its document."""
        return await asyncio.to_thread(lambda: self.secrets.store.revision(number))

    async def apply(
        self,
        document: Any,
        *,
        source: str,
        reason: str = "",
        base: int | None = None,
        central: int | None = None,
    ) -> Revision:
        """Put a document in force; only the devices that it changes restart.

        `base` is the revision that the change was made for, None for any; `central` the revision of
        central that it is. Raises `ConfigRefused` or `Conflict`, with nothing changed. A caller
        that is cancelled does not stop it.
        """
        work = self._applied(
            document, Head(0, b"", source, reason[:REASON_LENGTH], 0), base, central
        )
        return await self._uncut(work)

    async def undo(self, source: str = "undo", *, base: int | None = None) -> Revision:
        """Return to the revision before; again and again, one step further each time.

        `base` is the revision that is to be undone, None for any. Raises `ConfigRefused` where
        there is none before, and `Conflict`.
        """
        return await self._uncut(self._undone(source, base))

    @property
    def is_ahead(self) -> bool:
        """Tell whether the document in force is another one than was agreed on with central."""
        return self.current.hash != self.agreed.hash

    async def answer(self, number: int, *, accept: bool) -> Revision:
        """Decide on a proposal; gives the revision in force then. Raises as `apply`."""
        found = next((one for one in self._proposals if one.number == number), None)
        if found is None:
            raise ConfigRefused([Problem((), f"there is no open proposal {number}")])
        revision = self.current
        if accept:
            revision = await self.apply(
                found.document,
                source=found.source,
                reason=f"proposal {number}",
                central=found.central or None,
            )
        answered = Answered.ACCEPTED if accept else Answered.REFUSED
        await asyncio.to_thread(lambda: note_answer(self.secrets.store, number, answered))
        self._proposals = [one for one in self._proposals if one.number != number]
        return revision

    async def propose(self, document: Any, *, source: str, reason: str, central: int = 0) -> None:
        """Keep a document for a person's decision; an open proposal of the source gives way."""
        document = await asyncio.to_thread(self.secrets.concealed, plain(document))
        base, now_us = self.current.number, self.clock.now_us()
        wanted = Proposal(
            0, base, hash_of(document), document, source, reason[:REASON_LENGTH], now_us, central
        )
        if any((one.hash, one.central) == (wanted.hash, central) for one in self._proposals):
            return
        made = await asyncio.to_thread(lambda: keep(self.secrets.store, wanted))
        self._proposals = [*(one for one in self._proposals if one.source != source), made]

    async def note_trial(self, number: int, left_s: float | None) -> None:
        """Note on disk what is left of the trial of a revision; None takes it for good.

        Nothing happens if another one is on trial by now. Raises `ConfigUnwritable`.
        """
        async with self._changing:
            if self.trial is None or self.trial.number != number:
                return
            trial = None if left_s is None else replace(self.trial, left_s=left_s)
            fact = {"trial": trial.fact() if trial else None}
            await asyncio.to_thread(lambda: self.secrets.store.note(fact))
            self.trial = trial

    async def revert(self) -> Revision:
        """Return from the revision on trial to the last good one. Raises `ConfigRefused`."""
        return await self._uncut(self._reverted())

    async def _reverted(self) -> Revision:
        async with self._changing:
            trial = self.trial
            good = await self.revision(trial.good) if trial is not None else None
            if trial is None or good is None:
                raise ConfigRefused([Problem((), "there is no revision to return to")])
            failed = self.current
            _log.error(
                "no link since the change: the last good configuration comes back",
                failed=failed.number,
                good=good.number,
            )
            head = replace(
                good.head,
                source="revert",
                reason=f"no link to central after revision {failed.number}",
                at_us=self.clock.now_us(),
                state=State.PENDING,
            )
            step = Step(
                Revision(head, good.document), State.REVERTED, trial.agreed, None, self.agreed
            )
            return await self._carried_out(step)

    async def _applied(
        self, document: Any, head: Head, base: int | None, central: int | None
    ) -> Revision:
        async with self._changing:
            if base is not None and base != self.current.number:
                raise Conflict(base, self.current.number)
            problems = await asyncio.to_thread(self.check, document)
            if problems:
                raise ConfigRefused(problems)
            document = await asyncio.to_thread(lambda: self.secrets.concealed(plain(document)))
            before, digest = self.current.head, await asyncio.to_thread(hash_of, document)
            if digest == before.hash:
                return await self._based_on(central)
            head = replace(
                head,
                hash=digest,
                at_us=self.clock.now_us(),
                previous=before.number,
                central=before.central if central is None else central,
            )
            return await self._carried_out(self._step(Revision(head, document), central))

    def _step(self, wanted: Revision, central: int | None) -> "Step":
        """Say what begins with a revision: that of central is on trial, any other ends a trial."""
        if central is None:
            return Step(wanted, State.REPLACED, self.agreed, None, self.refused)
        trial = None
        if self.revert_after_s > 0:
            good = self.trial or Trial(0, self.current.number, 0.0, self.agreed)
            trial = replace(good, number=central, left_s=self.revert_after_s)
            self.portion_s, trial = trial.portion_s(), trial.without_portion()
        return Step(wanted, State.REPLACED, Agreed(central, wanted.hash), trial, Agreed())

    async def _based_on(self, central: int | None) -> Revision:
        head = self.current.head
        agreed = Agreed(central or 0, head.hash)
        if central is not None and agreed != self.agreed:
            facts = {"agreed": agreed.fact()}
            await asyncio.to_thread(lambda: self.secrets.store.base_on(head.number, central, facts))
            self._heads[head.number] = head = replace(head, central=central)
            self.current, self.agreed = Revision(head, self.current.document), agreed
            self._tell()
        return self.current

    async def _undone(self, source: str, base: int | None) -> Revision:
        async with self._changing:
            now = self.current.head
            if base is not None and base != now.number:
                raise Conflict(base, now.number)
            target = await self.revision(now.previous) if now.previous else None
            if target is None:
                raise ConfigRefused([Problem((), "there is no revision before to return to")])
            problems = await asyncio.to_thread(self.check, target.document)
            if problems:
                raise ConfigRefused(problems)
            head = replace(
                target.head,
                source=source,
                reason=f"undo of {now.number}, back to {target.number}",
                at_us=self.clock.now_us(),
                state=State.PENDING,
                central=now.central,
            )
            return await self._carried_out(self._step(Revision(head, target.document), None))

    async def _carried_out(self, step: "Step") -> Revision:
        """Store, carry out, put in force: in this order, so that a crash leaves what was."""
        revision = await asyncio.to_thread(lambda: self.secrets.store.add(step.wanted))
        devices, problems = await asyncio.to_thread(self.secrets.devices_in, revision.document)
        started: list[str] = []
        facts = step.facts(revision.number)
        try:
            if self.change is not None:
                started = await self.change(devices)
            await asyncio.to_thread(
                lambda: self.secrets.store.promote(revision.number, step.before, facts)
            )
        except SpineError as error:
            await self._taken_back(revision, error)
            raise ConfigRefused([Problem((), str(error))]) from error
        self._in_force(revision, devices, step)
        self.problems = problems
        _log.info(
            "configuration in force",
            revision=revision.number,
            source=revision.source,
            devices=len(devices),
            started=started[:20],
        )
        self._tell()
        return self.current

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    async def _taken_back(self, revision: Revision, error: SpineError) -> None:
        _log.error("a configuration could not be put in force", error=str(error))
        if self.change is not None:
            await self.change(self.devices)
        self._heads[revision.number] = replace(revision.head, state=State.FAILED)
        try:
            await asyncio.to_thread(lambda: self.secrets.store.mark(revision.number, State.FAILED))
        except SpineError as worse:
            # It stays pending on disk: the next start gives it up.
            _log.warning("the failure could not be noted", error=str(worse))

    def _in_force(self, revision: Revision, devices: tuple[Device, ...], step: "Step") -> None:
        last = self.current.head
        self._heads[last.number] = replace(last, state=step.before)
        head = replace(revision.head, state=State.CURRENT)
        self.current = Revision(head, revision.document)
        self._heads[head.number] = head
        oldest = head.number - KEPT
        self._heads = {number: one for number, one in self._heads.items() if number > oldest}
        self.devices = devices
        self.agreed, self.refused = step.agreed, step.refused
        self.trial = step.trial and replace(step.trial, number=head.number)

    async def _uncut(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await asyncio.shield(task)
