"""Why a command is not carried out: what the gateway enforces by itself before a write.

Pure: it is asked once when a command comes, for a quick answer, and again at the last moment.
"""

from dataclasses import dataclass

from edge.commands.book import Book
from edge.commands.command import FARTHEST_S, Command, Slot, Source, State
from edge.commands.moments import Moment
from edge.commands.way import Heard, Target, Way
from edge.writable import HAND, InterlockSection, Value, WriteSection, type_fault


@dataclass(frozen=True, slots=True)
class Objection:
    """Why not, and what the command becomes by it."""

    detail: str
    state: State = State.REFUSED


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows the rules of one gateway."""

    way: Way
    book: Book

    def at_first(
        self, command: Command, now: Moment, *, is_synchronised: bool, floor_us: int = 0
    ) -> Objection | None:
        """Say what is against a command that came just now, whatever time it is due."""
        asked = command.asked
        if command.source is Source.CENTRAL and asked.expires_us is None:
            return Objection("expires_us is missing: a command of central must expire")
        if asked.not_before_us is not None and asked.not_before_us >= command.expires_us:
            return Objection("not_before_us is not before expires_us")
        if command.is_timed and command.expires_us <= floor_us:
            return Objection(
                "it expired before the oldest command that is remembered", State.EXPIRED
            )
        if now.until_s(command.expires_us) > FARTHEST_S and is_synchronised:
            return Objection(f"expires_us is more than {FARTHEST_S / 86_400:g} days ahead")
        return self._late(command, now, is_synchronised=is_synchronised) or self._forbidden(command)

    def at_last(self, command: Command, now: Moment, *, is_synchronised: bool) -> Objection | None:
        """Say what is against writing a command right now."""
        return (
            self._late(command, now, is_synchronised=is_synchronised)
            or self._forbidden(command)
            or self._held(command)
            or (None if command.asked.value is None else self._unsafe(command, now))
        )

    def _late(self, command: Command, now: Moment, *, is_synchronised: bool) -> Objection | None:
        if command.left_s(now) <= 0:
            return Objection("its time was over before it was written", State.EXPIRED)
        if command.is_timed and not is_synchronised:
            return Objection("the gateway's clock is not synchronised: it cannot keep times")
        return None

    def _forbidden(self, command: Command) -> Objection | None:
        target = self.way.target(command.point)
        if target is None:
            return Objection(f"{command.point} is not writable: its configuration says no `write`")
        text = _out_of_bounds(command, target.limits) or _wrong_value(command, target)
        return Objection(text) if text else None

    def _held(self, command: Command) -> Objection | None:
        slot = self.book.outranking(command.point, command.priority)
        if slot is None or command.asked.value is None:
            return None
        return Objection(held_text(slot))

    def _unsafe(self, command: Command, now: Moment) -> Objection | None:
        target = self.way.target(command.point)
        if target is None:
            return None
        last = self.book.written.get(command.point)
        gone_s = None if last is None else now.since_s(last)
        if gone_s is not None and gone_s < target.limits.min_interval_s:
            text = f"written {gone_s:.1f} s ago; at least {target.limits.min_interval_s:g} s go by"
            return Objection(text)
        for one in target.limits.interlock:
            fault = unmet(one, self.way.heard(one.point))
            if fault:
                return Objection(f"interlock: {fault}")
        return None


def held_text(slot: Slot) -> str:
    """Say who holds a point."""
    if slot.source is Source.LOCAL:
        return f"held by hand at priority {slot.priority}" + (
            f": {slot.actor}" if slot.actor else ""
        )
    return f"held at priority {slot.priority}, which is higher"


def unmet(section: InterlockSection, heard: Heard | None) -> str:
    """Say which condition a reading does not meet; nothing where it meets all."""
    name = section.point
    if heard is None:
        return f"{name} has no reading"
    if heard.age_s > section.max_age_s:
        return f"{name} was read {heard.age_s:.0f} s ago; at most {section.max_age_s:g} s are taken"
    if heard.value is None:
        return f"{name} has no good value"
    if section.equals is not None and heard.value != section.equals:
        return f"{name} is {heard.value}, not {section.equals}"
    return _outside(section, heard.value)


def _outside(section: InterlockSection, value: Value) -> str:
    low, high = section.at_least, section.at_most
    if isinstance(value, str):
        return f"{section.point} is a text" if (low, high) != (None, None) else ""
    if low is not None and value < low:
        return f"{section.point} is {value:g}, below {low:g}"
    if high is not None and value > high:
        return f"{section.point} is {value:g}, above {high:g}"
    return ""


def _out_of_bounds(command: Command, limits: WriteSection) -> str:
    if command.source is Source.CENTRAL:
        if not limits.central:
            return "it may be written on site alone"
        if command.priority < limits.central_priority:
            return f"central may use priorities {limits.central_priority} to 16 of it"
    is_hand = limits.local_priority <= command.priority <= HAND
    if command.source is Source.LOCAL and command.asked.value is not None and not is_hand:
        return f"on site priorities {limits.local_priority} to {HAND} of it are used"
    return ""


def _wrong_value(command: Command, target: Target) -> str:
    asked, limits = command.asked, target.limits
    if asked.value is None:
        return "a value that is given back has no lease" if asked.lease_s else ""
    if asked.lease_s is not None:
        if limits.release_value is None and not target.releases:
            return "it has no release_value: nothing could be written at the end of a lease"
        if limits.max_lease_s is not None and asked.lease_s > limits.max_lease_s:
            return f"a lease of it is {limits.max_lease_s:g} s at most"
    return type_fault(target.source.point.type, asked.value) or limits.objection(asked.value)
