"""The configuration twin: which document is in force, how it came about, and how it is changed.

A change is checked as a whole, stored, carried out, and only then in force; if any of that fails,
nothing has changed. What is decided is decided by revisions, never by clocks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from edge.config_store import (
    FILE_NAME,
    KEPT,
    Answered,
    ConfigDamaged,
    ConfigStore,
    Head,
    Proposal,
    Revision,
    State,
)
from edge.document import EMPTY, devices_in, hash_of, plain, problems_in
from edge.settings import Device
from shared.clock import Clock
from shared.errors import SpineError
from shared.logs import get
from shared.settings import Problem

FILE: Final = "file"
REASON_LENGTH: Final = 500

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


@dataclass(frozen=True, slots=True)
class Agreed:
    """The newest revision on which gateway and central agreed; 0 where there was none."""

    revision: int = 0
    hash: bytes = b""

    def fact(self) -> list[Any]:
        """Write it for the store."""
        return [self.revision, self.hash.hex()]

    @classmethod
    def of(cls, fact: Any) -> "Agreed":
        """Read what `fact` wrote; nothing is no agreement."""
        return cls(int(fact[0]), bytes.fromhex(fact[1])) if fact else cls()


@dataclass(frozen=True, slots=True)
class Trial:
    """A revision of central that is on trial: if the link stays away, `good` comes back.

    `left_s` is how long the link may still stay away, `agreed` what was agreed on before.
    """

    number: int
    good: int
    left_s: float
    agreed: Agreed

    def fact(self) -> list[Any]:
        """Write it for the store."""
        return [self.number, self.good, self.left_s, self.agreed.fact()]

    @classmethod
    def of(cls, fact: Any) -> "Trial | None":
        """Read what `fact` wrote."""
        if not fact:
            return None
        number, good, left_s, agreed = fact
        return cls(number, good, left_s, Agreed.of(agreed))


@dataclass(slots=True)
class Twin:
    """The gateway's end of the configuration."""

    store: ConfigStore
    clock: Clock
    current: Revision
    devices: tuple[Device, ...]
    problems: list[Problem]
    """What is wrong with the stored document by now, such as a driver that is not installed."""
    change: Change | None = None
    """Carries a change out; None while no device is read."""
    revert_after_s: float = 0.0
    """How long the link may stay away after a change of central; 0 for ever."""
    agreed: Agreed = Agreed()
    refused: Agreed = Agreed()
    """The revision of central that was tried and taken back."""
    trial: Trial | None = None
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Called when the revision in force, or what is agreed on, is another one."""
    _heads: dict[int, Head] = field(default_factory=dict)
    _proposals: list[Proposal] = field(default_factory=list)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _works: set[asyncio.Task[Any]] = field(default_factory=set)

    @classmethod
    async def opened(cls, folder: Path, file: Mapping[str, Any] | None, clock: Clock) -> Self:
        """Open the configuration in `folder`; `file` is the document of `gateway.yaml`, if any.

        A database that is damaged is put aside, and the file's document is all there is.
        """
        path = folder / FILE_NAME
        try:
            return await asyncio.to_thread(cls._started, path, file, clock)
        except ConfigDamaged as error:
            kept_at = await asyncio.to_thread(_put_aside, path, clock)
            _log.error(
                "the configuration was damaged; what gateway.yaml says is taken instead",
                error=str(error),
                kept_at=str(kept_at),
            )
            return await asyncio.to_thread(cls._started, path, file, clock)

    @classmethod
    def _started(cls, path: Path, file: Mapping[str, Any] | None, clock: Clock) -> Self:
        store = ConfigStore(path)
        try:
            return cls._of(store, file, clock)
        except BaseException:
            store.close()
            raise

    @classmethod
    def _of(cls, store: ConfigStore, file: Mapping[str, Any] | None, clock: Clock) -> Self:
        store.abandon_pending()
        _take_file(store, file, clock)
        current = store.current()
        if current is None:
            raise ConfigDamaged("no configuration is in force: this is a defect of the gateway")
        devices, problems = devices_in(current.document)
        for problem in problems:
            _log.error("a device is left out", problem=str(problem))
        heads = {head.number: head for head in store.heads()}
        twin = cls(store, clock, current, devices, problems)
        twin.agreed = Agreed.of(store.fact("agreed"))
        twin.refused = Agreed.of(store.fact("refused"))
        twin.trial = Trial.of(store.fact("trial"))
        twin._heads, twin._proposals = heads, store.proposals()
        return twin

    async def close(self) -> None:
        """Wait for the change that is under way, and close the database."""
        if self._works:
            await asyncio.wait(self._works)
        await asyncio.to_thread(self.store.close)

    def check(self, document: Any) -> list[Problem]:
        """Find everything that is wrong with a document."""
        return problems_in(document)

    def history(self) -> list[Head]:
        """List the revisions, newest first."""
        return sorted(self._heads.values(), key=lambda head: -head.number)

    def proposals(self) -> list[Proposal]:
        """List the proposals that wait for a decision, oldest first."""
        return list(self._proposals)

    async def revision(self, number: int) -> Revision | None:
        """Read a revision with its document."""
        return await self._stored(lambda: self.store.revision(number))

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

    async def undo(self, source: str = "undo") -> Revision:
        """Return to the revision before; again and again, one step further each time.

        Raises `ConfigRefused` where there is none.
        """
        return await self._uncut(self._undone(source))

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
        await self._stored(lambda: self.store.answer(number, answered))
        self._proposals = [one for one in self._proposals if one.number != number]
        return revision

    async def propose(self, document: Any, *, source: str, reason: str, central: int = 0) -> None:
        """Keep a document for a person's decision; an open proposal of the source gives way."""
        document = plain(document)
        base, now_us = self.current.number, self.clock.now_us()
        wanted = Proposal(
            0, base, hash_of(document), document, source, reason[:REASON_LENGTH], now_us, central
        )
        if any((one.hash, one.central) == (wanted.hash, central) for one in self._proposals):
            return
        made = await self._stored(lambda: self.store.propose(wanted))
        self._proposals = [*(one for one in self._proposals if one.source != source), made]

    async def spend(self, seconds: float) -> None:
        """Note on disk that the link stayed away for so long of the trial."""
        async with self._changing:
            if self.trial is not None:
                left_s = max(0.0, self.trial.left_s - seconds)
                await self._note_trial(replace(self.trial, left_s=left_s))

    async def pass_trial(self) -> None:
        """Take the revision on trial for good: the link came back."""
        async with self._changing:
            if self.trial is not None:
                _log.info("the link is there: the configuration stays", revision=self.trial.number)
                await self._note_trial(None)

    async def _note_trial(self, trial: Trial | None) -> None:
        fact = {"trial": trial.fact() if trial else None}
        await self._stored(lambda: self.store.note(fact))
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
            step = _Step(
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
            document = plain(document)
            before = self.current.head
            if hash_of(document) == before.hash:
                return await self._based_on(central)
            head = replace(
                head,
                hash=hash_of(document),
                at_us=self.clock.now_us(),
                previous=before.number,
                central=before.central if central is None else central,
            )
            return await self._carried_out(self._step(Revision(head, document), central))

    def _step(self, wanted: Revision, central: int | None) -> "_Step":
        """Say what begins with a revision: that of central is on trial, any other ends a trial."""
        if central is None:
            return _Step(wanted, State.REPLACED, self.agreed, None, self.refused)
        trial = None
        if self.revert_after_s > 0:
            good = self.trial or Trial(0, self.current.number, 0.0, self.agreed)
            trial = replace(good, number=central, left_s=self.revert_after_s)
        return _Step(wanted, State.REPLACED, Agreed(central, wanted.hash), trial, Agreed())

    async def _based_on(self, central: int | None) -> Revision:
        head = self.current.head
        agreed = Agreed(central or 0, head.hash)
        if central is not None and agreed != self.agreed:
            facts = {"agreed": agreed.fact()}
            await self._stored(lambda: self.store.base_on(head.number, central, facts))
            self._heads[head.number] = head = replace(head, central=central)
            self.current, self.agreed = Revision(head, self.current.document), agreed
            self._tell()
        return self.current

    async def _undone(self, source: str) -> Revision:
        async with self._changing:
            now = self.current.head
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

    async def _carried_out(self, step: "_Step") -> Revision:
        """Store, carry out, put in force: in this order, so that a crash leaves what was."""
        revision = await self._stored(lambda: self.store.add(step.wanted))
        devices, _ = await asyncio.to_thread(devices_in, revision.document)
        started: list[str] = []
        facts = step.facts(revision.number)
        try:
            if self.change is not None:
                started = await self.change(devices)
            await self._stored(lambda: self.store.promote(revision.number, step.before, facts))
        except SpineError as error:
            await self._taken_back(revision, error)
            raise ConfigRefused([Problem((), str(error))]) from error
        self._in_force(revision, devices, step)
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
            await self._stored(lambda: self.store.mark(revision.number, State.FAILED))
        except SpineError as worse:
            # It stays pending on disk: the next start gives it up.
            _log.warning("the failure could not be noted", error=str(worse))

    def _in_force(self, revision: Revision, devices: tuple[Device, ...], step: "_Step") -> None:
        last = self.current.head
        self._heads[last.number] = replace(last, state=step.before)
        head = replace(revision.head, state=State.CURRENT)
        self.current = Revision(head, revision.document)
        self._heads[head.number] = head
        oldest = head.number - KEPT
        self._heads = {number: one for number, one in self._heads.items() if number > oldest}
        self.devices, self.problems = devices, []
        self.agreed, self.refused = step.agreed, step.refused
        self.trial = step.trial and replace(step.trial, number=head.number)

    async def _stored(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def _uncut(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await asyncio.shield(task)


@dataclass(frozen=True, slots=True)
class _Step:
    """From the revision in force to another one, and what is true from then on."""

    wanted: Revision
    before: State
    agreed: Agreed
    trial: Trial | None
    refused: Agreed

    def facts(self, number: int) -> dict[str, Any]:
        """Write it for the store, which keeps it in one transaction with the revision."""
        trial = self.trial and replace(self.trial, number=number)
        return {
            "agreed": self.agreed.fact(),
            "refused": self.refused.fact(),
            "trial": trial.fact() if trial else None,
        }


def _put_aside(path: Path, clock: Clock) -> Path:
    aside = path.with_name(f"config-damaged-{clock.now_us()}.db")
    path.rename(aside)
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    return aside


def _take_file(store: ConfigStore, file: Mapping[str, Any] | None, clock: Clock) -> None:
    """Take in what `gateway.yaml` says: the first revision, a newer one, or a proposal."""
    current = store.current()
    if current is None:
        document = EMPTY if file is None else file
        _put(store, document, "first start", 0, clock)
    elif file is not None and hash_of(file).hex() != store.fact("file"):
        _take_changed_file(store, current, file, clock)
    if file is not None and hash_of(file).hex() != store.fact("file"):
        store.note({"file": hash_of(file).hex()})


def _take_changed_file(
    store: ConfigStore, current: Revision, file: Mapping[str, Any], clock: Clock
) -> None:
    if hash_of(file) == current.hash:
        return
    if current.source == FILE:
        _put(store, file, "gateway.yaml was changed", current.number, clock)
        return
    proposal = Proposal(
        0,
        current.number,
        hash_of(file),
        file,
        FILE,
        "gateway.yaml was changed, but the gateway has newer changes of its own",
        clock.now_us(),
    )
    number = store.propose(proposal).number
    _log.warning(
        "gateway.yaml was changed, but newer changes are in force: it waits as a proposal",
        proposal=number,
        in_force=current.number,
        source=current.source,
    )


def _put(
    store: ConfigStore, document: Mapping[str, Any], reason: str, previous: int, clock: Clock
) -> None:
    central = 0
    if previous and (last := store.revision(previous)) is not None:
        central = last.head.central
    head = Head(
        0, hash_of(document), FILE, reason, clock.now_us(), previous=previous, central=central
    )
    store.promote(store.add(Revision(head, document)).number)


def stored_devices(folder: Path) -> tuple[Device, ...]:
    """Read the devices in force from the configuration of a gateway, running or not. Blocks."""
    path = folder / FILE_NAME
    if not path.exists():
        return ()
    with ConfigStore(path) as store:
        current = store.current()
    return devices_in(current.document)[0] if current is not None else ()
