"""Commands under crashes, cuts and clocks that lie: none twice, none late, none without an end.

`SPINE_COMMAND_STEPS=20000 SPINE_COMMAND_SEED=7` runs the full form.
"""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge.commands import Asked, Command, Moment, Source, State
from edge.commands.audit import broken_at
from edge.commands.way import Heard
from edge.writable import InterlockSection, Value
from shared import logs
from tests.integration.commands_kit import (
    LIMITS,
    CommandSite,
    Killed,
    MortalStore,
    SiteClock,
    SiteDevice,
    SiteWay,
)

STEPS = int(os.environ.get("SPINE_COMMAND_STEPS", "2000"))
SEED = int(os.environ.get("SPINE_COMMAND_SEED", "2"))
STEPS_EACH = 25
POINTS = {"a": "d", "b": "d", "c": "e"}
FAN = Heard(1.0, 5.0)
GUARDED = LIMITS.model_copy(update={"interlock": (InterlockSection(point="fan", equals=1),)})
LEASED = LIMITS.model_copy(update={"max_lease_s": 900.0})

WELL: dict[str, Any] = {
    "slow_s": 0.0, "says_no": False, "loses_answer": False, "clamps_at": None
}  # fmt: skip
ILLS: list[dict[str, Any]] = [
    {"slow_s": 2.0},
    {"slow_s": 29.5},
    {"slow_s": 200.0},
    {"says_no": True},
    {"loses_answer": True},
    {"clamps_at": 0.5},
]
Traits = st.sampled_from([WELL] * 5 + ILLS)
Priorities = st.integers(1, 16)
Seconds = st.sampled_from([0.5, 5.0, 29.0, 31.0, 120.0, 1_000.0, 90_000.0])


def unless_killed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what a loop has to say, but of tasks that were killed."""
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


@dataclass
class Wanted:
    """What the model knows of a command that was submitted, whether or not it was kept."""

    asked: Asked
    source: Source
    late_s: float
    """True time from which on a write of it is late."""


class CommandMachine(RuleBasedStateMachine):
    """One gateway, two devices, and everything that goes wrong."""

    make_store: ClassVar[type[MortalStore]] = MortalStore
    judges_notes: ClassVar[bool] = True
    """Whether a write must have been noted before it."""
    steps: ClassVar[int] = 0
    kills: ClassVar[int] = 0
    ends: ClassVar[Counter[State]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(unless_killed)
        shared = Path("/dev/shm")  # noqa: S108 - thousands of synced commits: in memory
        self.folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
        clock = SiteClock()
        self.devices = {name: SiteDevice(clock) for name in ("d", "e")}
        for device in self.devices.values():
            device.before_write = self.note_write
            device.after_write = self.burn
        limits = {"a": LIMITS, "b": GUARDED, "c": LEASED}
        way = SiteWay(self.devices, POINTS, limits, conditions={"fan": FAN})
        self.site = CommandSite(
            self.folder, clock, self.devices["d"], way, self.commit, type(self).make_store
        )
        self.wanted: dict[bytes, Wanted] = {}
        self.written: Counter[bytes] = Counter()
        self.unconfigured: set[str] = set()
        self.next_value = 0
        self.fuse = 0
        self.faults: list[Exception] = []
        self.is_dead = False
        self.is_lying = False
        self.do(self.site.start)

    def do(self, work: Callable[[], Any]) -> Any:
        """Do a step; if the process is killed in it, start the next one on what is on disk."""
        type(self).steps += 1
        try:
            return self.runner.run(work())
        except Killed:
            return None
        finally:
            self.bury()
            if self.faults:
                raise self.faults[0]

    def bury(self) -> None:
        while self.is_dead:
            self.runner.run(self.site.stop())
            self.is_dead = False
            try:
                self.runner.run(self.site.start())
            except Killed:
                self.site.commander.desk.store.close()

    def burn(self) -> None:
        """Go on with the fuse: at its end the process is killed."""
        self.fuse -= 1
        if self.fuse == 0:
            self.is_dead = True
            type(self).kills += 1
        if self.is_dead:
            raise Killed

    def commit(self, _: str) -> None:
        self.burn()

    def note_write(self, point: str, value: Value | None) -> None:
        """Judge a write; what is wrong is raised outside, where no driver's errors are caught."""
        self.burn()
        try:
            self.judge_write(point, value)
        except (AssertionError, LookupError) as fault:
            self.faults.append(fault)

    def judge_write(self, point: str, value: Value | None) -> None:
        """See which command it is that a device is written to for, and whether it may be."""
        query = "SELECT id, source FROM commands WHERE point = ? AND state = ?"
        store = self.site.commander.desk.store
        rows = store.rows(query, [point, "sending"])
        if type(self).judges_notes:
            assert len(rows) == 1, "a write that no command, or more than one, stands for"
        else:
            by_value = f"{query} AND CAST(asked ->> 'value' AS REAL) = ?"
            rows = rows or store.rows(by_value, [point, "waiting", value])
            if not rows:
                return
        id_ = bytes(rows[0]["id"])
        self.written[id_] += 1
        assert self.written[id_] == 1, "twice"
        if rows[0]["source"] == Source.GATEWAY.value:
            return
        wanted = self.wanted[id_]
        now_s = self.site.clock.true_s
        assert now_s < wanted.late_s + 1e-3, f"late by {now_s - wanted.late_s:.3f} s"
        if wanted.asked.value is not None:
            self.judge(point, wanted, value)

    def judge(self, point: str, wanted: Wanted, value: Value | None) -> None:
        assert value == wanted.asked.value
        limits = self.site.way.limits[point]
        if limits.interlock:
            assert self.site.way.conditions.get("fan") == FAN, "against its interlock"
        by_hand = [one for one in self.site.commander.active() if one.priority <= 8]
        if wanted.source is Source.CENTRAL:
            assert point not in {one.point for one in by_hand}, "against a hand"

    def late_s(self, asked: Asked) -> float:
        clock = self.site.clock
        if asked.expires_us is None and asked.not_before_us is None:
            return clock.true_s + 30.0
        expires_us = asked.expires_us
        if expires_us is None:
            expires_us = max(clock.now_us(), asked.not_before_us or 0) + 30_000_000
        by_length = clock.true_s + (expires_us - clock.now_us()) / 1e6
        # What a clock that lies says of the wall is all that another boot knows.
        return max(by_length, expires_us / 1e6) if self.is_lying else by_length

    @rule(
        point=st.sampled_from(["a", "a", "b", "b", "c", "c", "nowhere"]),
        source=st.sampled_from([Source.CENTRAL, Source.CENTRAL, Source.LOCAL]),
        is_back=st.sampled_from([False, False, False, True]),
        priority=st.none() | Priorities,
        lease_s=st.sampled_from([None, 10.0, 300.0, 900.0]),
        begins_s=st.sampled_from([None, None, None, 5.0, 1_000.0]),
        lasts_s=st.sampled_from([None, 0.5, 20.0, 60.0, 1_000.0, 90_000.0]),
        is_well=st.sampled_from([True, True, False]),
        fuse=st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        turns=st.sampled_from([True, True, False]),
        trait=Traits,
    )
    def submit(
        self, *, is_well: bool, fuse: int, turns: bool, trait: dict[str, Any], **more: Any
    ) -> None:
        """Want something, mostly something that can be; be killed at any moment of it."""
        if is_well:
            self.the_clock_is_set()
            self.site.way.away.clear()
            self.a_device_falls_ill(POINTS.get(more["point"], "d"), trait)
        asked = self.asked(**more)
        id_ = (len(self.wanted) + 1).to_bytes(16, "big")
        self.wanted[id_] = Wanted(asked, more["source"], self.late_s(asked))
        self.fuse = fuse or self.fuse
        self.do(lambda: self.site.commander.submit(asked, more["source"], id_))
        if turns:
            self.do(self.site.turn)

    def asked(
        self, *, point: str, source: Source, is_back: bool, priority: int | None, **times: Any
    ) -> Asked:
        self.next_value += 1
        begins_s, lasts_s = times["begins_s"], times["lasts_s"]
        if source is Source.CENTRAL and self.next_value % 8:
            lasts_s, priority = lasts_s or 60.0, max(priority or 16, 9)
        elif source is Source.LOCAL and self.next_value % 8:
            priority = 8
        expires_s = None if lasts_s is None else lasts_s + (begins_s or 0.0)
        return Asked(
            point=point,
            value=None if is_back else float(self.next_value),
            priority=priority,
            lease_s=None if is_back else times["lease_s"],
            not_before_us=None if begins_s is None else self.site.clock.us(begins_s),
            expires_us=None if expires_s is None else self.site.clock.us(expires_s),
        )

    @precondition(lambda self: bool(self.wanted))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Central repeats what it heard no end of; so may everybody."""
        id_ = data.draw(st.sampled_from(sorted(self.wanted)[-8:]))
        wanted = self.wanted[id_]
        if self.site.commander.desk.store.known(id_) is None:
            wanted.late_s = self.late_s(wanted.asked)
        self.do(lambda: self.site.commander.submit(wanted.asked, wanted.source, id_))

    @rule(point=st.sampled_from(sorted(POINTS)))
    def give_back(self, point: str) -> None:
        top = self.site.commander.desk.book.top(point)
        asked = Asked(point=point, value=None, priority=8 if top is None else top.priority)
        id_ = (len(self.wanted) + 1).to_bytes(16, "big")
        self.wanted[id_] = Wanted(asked, Source.LOCAL, self.late_s(asked))
        self.do(lambda: self.site.commander.submit(asked, Source.LOCAL, id_))
        self.do(self.site.turn)

    @rule(seconds=Seconds)
    def time_goes_by(self, seconds: float) -> None:
        self.do(lambda: self.site.turn(seconds))

    @rule()
    def turn(self) -> None:
        self.do(self.site.turn)

    @rule(seconds=Seconds)
    def time_goes_by_unseen(self, seconds: float) -> None:
        """The gateway is busy, or its disk is slow: it looks at the clock much later."""
        self.site.clock.true_s += seconds

    @rule(steps=st.integers(1, 12))
    def light_the_fuse(self, steps: int) -> None:
        """Be killed before or after one of the next commits or writes."""
        self.fuse = steps

    @rule(is_clean=st.booleans())
    def restart(self, is_clean: bool) -> None:
        self.do(self.site.stop)
        self.do(self.site.start)
        if is_clean:
            self.do(self.site.turn)

    @rule(device=st.sampled_from(["d", "e"]))
    def cut_or_mend_a_link(self, device: str) -> None:
        self.site.way.away ^= {device}

    @rule(device=st.sampled_from(["d", "e"]), trait=Traits)
    def a_device_falls_ill(self, device: str, trait: dict[str, Any]) -> None:
        for name, value in (WELL | trait).items():
            setattr(self.devices[device], name, value)

    @rule(off_s=st.sampled_from([-90_000.0, -100.0, 100.0, 90_000.0]), is_told=st.booleans())
    def the_clock_jumps(self, off_s: float, is_told: bool) -> None:
        clock = self.site.clock
        waiting = self.site.commander.waiting()
        if not is_told and any(one.accepted.boot != clock.boot for one in waiting):
            return  # of these only the wall is known
        clock.wall_off_s += off_s
        clock.is_synchronised = clock.is_synchronised and not is_told
        self.is_lying = self.is_lying or not is_told

    @rule()
    def the_clock_is_set(self) -> None:
        self.site.clock.wall_off_s, self.site.clock.is_synchronised = 0.0, True
        self.is_lying = False

    @rule(off_s=st.sampled_from([-1.7e9, -100.0, 0.0]), off_for_s=Seconds)
    def the_machine_boots(self, off_s: float, off_for_s: float) -> None:
        self.do(self.site.stop)
        self.site.clock.true_s += off_for_s
        self.site.clock.reboot(off_s)
        self.do(self.site.start)

    @rule()
    def the_fan_stops_or_starts(self) -> None:
        fan = self.site.way.conditions
        fan["fan"] = FAN if fan["fan"] != FAN else Heard(0.0, 5.0)

    @rule(point=st.sampled_from(sorted(POINTS)), limits=st.sampled_from([LIMITS, LEASED, None]))
    def the_configuration_changes(self, point: str, limits: Any) -> None:
        self.site.way.limits.pop(point, None)
        if limits is None:
            self.unconfigured.add(point)
        else:
            self.site.way.limits[point] = limits

    @invariant()
    def what_is_in_memory_is_what_is_on_disk(self) -> None:
        desk = self.site.commander.desk
        rows = desk.store.rows("SELECT point, priority, command FROM slots")
        on_disk = {(row["point"], row["priority"]): row["command"] for row in rows}
        assert on_disk == {place: slot.command for place, slot in desk.book.slots.items()}
        waiting = desk.store.rows("SELECT id FROM commands WHERE state = 'waiting'")
        assert {row["id"] for row in waiting} == set(desk.book.waiting)
        owed = desk.store.rows("SELECT point, priority FROM owed")
        assert {(row["point"], row["priority"]) for row in owed} == set(desk.book.owed)

    @invariant()
    def only_what_was_read_back_holds_a_point(self) -> None:
        for slot in self.site.commander.active():
            known = self.site.commander.desk.store.known(slot.command)
            assert known is not None
            assert known[0].state is State.DONE
            assert known[0].command.source is not Source.GATEWAY
            assert (slot.priority <= 8) == (slot.source is Source.LOCAL)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.fuse = 0
            self.runner.run(self.site.stop())
            self.runner.close()
            shutil.rmtree(self.folder)

    def come_to_rest(self) -> None:
        """Let everything become well again: then everything has its end and its place."""
        self.fuse = 0
        self.the_clock_is_set()
        self.site.way.away.clear()
        for device in self.devices:
            self.a_device_falls_ill(device, WELL)
        for _ in range(6):
            self.do(lambda: self.site.turn(90_000))
        store = self.site.commander.desk.store
        rows = store.rows("SELECT state FROM commands")
        assert all(State(row["state"]).is_final for row in rows), "without a final state"
        type(self).ends.update(State(row["state"]) for row in rows)
        assert not self.site.commander.desk.book.owed
        assert broken_at(store) is None
        for point, name in POINTS.items():
            self.has_its_due(point, self.devices[name])

    def has_its_due(self, point: str, device: SiteDevice) -> None:
        if point not in device.values or point in self.unconfigured:
            return
        top = self.site.commander.desk.book.top(point)
        assert device.values[point] == (0.0 if top is None else top.value), "not its due"


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Tell nothing of thousands of commands."""
    logs.configure("error", "json")
    yield
    structlog.reset_defaults()


def run(machine: type[CommandMachine], examples: int, seed_: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS_EACH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    seed(seed_)(machine)
    run_state_machine_as_test(machine, settings=chosen)


def test_no_command_is_written_twice_or_late_or_without_an_end() -> None:
    class Machine(CommandMachine):
        steps, kills, ends = 0, 0, Counter()

    round_ = 0
    while Machine.steps < STEPS:
        run(Machine, max(1, (STEPS - Machine.steps) // STEPS_EACH), SEED + round_)
        round_ += 1
    told = {state.value: Machine.ends[state] for state in State if state.is_final}
    print(f"{Machine.steps} steps, {Machine.kills} kills, seed {SEED}: {told}")  # noqa: T201 - figures
    tried = list(told.values()) if STEPS >= 10_000 else [told["done"], Machine.kills]
    assert all(tried), "not everything was tried"


class ForgetfulStore(MortalStore):
    """Says only after the write that it was made."""

    def sending(self, command: Command, now: Moment) -> None:
        return


class WritesAlone(CommandMachine):
    """Judges the writes and nothing else: for what must be found."""

    judges_notes = False

    def come_to_rest(self) -> None:
        return


def test_a_store_that_notes_a_write_only_afterwards_is_found_to_write_twice() -> None:
    class Machine(WritesAlone):
        make_store = ForgetfulStore

    with pytest.raises(AssertionError, match="twice"):
        run(Machine, 200, SEED)


def test_an_expiry_that_is_looked_at_only_at_first_is_found_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left_s = Command.left_s

    def at_first(command: Command, now: Moment) -> float:
        return left_s(command, now) if now == command.accepted else float("inf")

    monkeypatch.setattr(Command, "left_s", at_first)

    class Machine(WritesAlone):
        steps = 0

    with pytest.raises(AssertionError, match="late by"):
        run(Machine, 200, SEED)
