"""A command: who wants which value where, until when; and what can become of it."""

import hashlib
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.commands.moments import Moment
from edge.writable import HAND, LONGEST_LEASE_S, PointKey, Value
from shared.clock import LATEST_US, MICROSECONDS
from shared.errors import SpineError
from shared.settings import problems_in

LOWEST: Final = 16
UNTIMED_S: Final = 30.0
"""A command of somebody here that says no `expires_us` is given up after this time."""

FARTHEST_S: Final = LONGEST_LEASE_S
"""A command may expire so far ahead at most."""

ID_BYTES: Final = 16
TEXT: Final = 200
"""So many characters has a text that is written, at most."""


class CommandWrong(SpineError):
    """A command is not of the form that it must have; it was not kept."""


class State(StrEnum):
    """What is the case with a command; all but the first two are final."""

    WAITING = "waiting"
    SENDING = "sending"
    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether it stays so for ever."""
        return self not in {State.WAITING, State.SENDING}


class Source(StrEnum):
    """Who wants something: people on site, central, or the gateway that gives a point back."""

    LOCAL = "local"
    CENTRAL = "central"
    GATEWAY = "gateway"


class Asked(BaseModel):
    """What a command says, over the link or over the local API; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    point: PointKey = Field(description="Key of the point.")
    value: float | str | None = Field(
        description="In the unit of the point; a boolean is 0 or 1; null gives the point back."
    )
    priority: int | None = Field(
        None, ge=1, le=LOWEST, description="1 is the highest; usually 8 on site and 16 of central."
    )
    not_before_us: int | None = Field(
        None, ge=0, le=LATEST_US, description="Written at this time or later."
    )
    expires_us: int | None = Field(
        None, ge=0, le=LATEST_US, description="Never written at this time or later."
    )
    lease_s: float | None = Field(
        None, gt=0, le=LONGEST_LEASE_S, description="Given back by itself after this time."
    )
    reason: str = Field("", max_length=200, description="Why, for people.")
    actor: str = Field("", max_length=100, description="Who, for people.")

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read a document; raises `CommandWrong` that says everything that is wrong."""
        try:
            asked = cls.model_validate(document)
        except ValidationError as error:
            raise CommandWrong("; ".join(map(str, list(problems_in(error))[:5]))) from error
        fault = _fault(asked.value)
        if fault:
            raise CommandWrong(f"value: {fault}")
        return asked


def _fault(value: Value | None) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else "is no number that can be written"
    if value is None:
        return ""
    # Half a surrogate pair is no text that could be stored.
    is_text = len(value) <= TEXT and value.encode("utf-8", "replace").decode() == value
    return "" if is_text else f"is no text of at most {TEXT} characters"


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it was accepted."""

    id: bytes
    asked: Asked
    source: Source
    accepted: Moment
    number: int = 0
    """In the order of acceptance."""

    @property
    def point(self) -> str:
        """Key of the point."""
        return self.asked.point

    @property
    def priority(self) -> int:
        """1 to 16."""
        usual = HAND if self.source is Source.LOCAL else LOWEST
        return self.asked.priority or usual

    @property
    def is_timed(self) -> bool:
        """Whether it speaks of the wall's time, which it then needs to be right."""
        return self.asked.expires_us is not None or self.asked.not_before_us is not None

    @property
    def expires_us(self) -> int:
        """From when on it is not written any more, by the wall."""
        if self.asked.expires_us is not None:
            return self.asked.expires_us
        from_us = max(self.accepted.utc_us, self.asked.not_before_us or 0)
        return from_us + int(UNTIMED_S * MICROSECONDS)

    def left_s(self, now: Moment) -> float:
        """Tell how long it may still be written, by whichever clock says less; ≤ 0: never more."""
        by_wall_s = now.until_s(self.expires_us) if self.is_timed else math.inf
        gone_s = now.since_s(self.accepted)
        if gone_s is None:
            if not self.is_timed:
                return 0.0
            gone_s = now.boot_s  # another boot, before this one: at least so long ago
        return min(by_wall_s, self.accepted.until_s(self.expires_us) - gone_s)

    def is_due(self, now: Moment) -> bool:
        """Tell whether its time has come, by both clocks."""
        at_us = self.asked.not_before_us
        if at_us is None:
            return True
        gone_s = now.since_s(self.accepted)
        has_gone_by = gone_s is None or gone_s >= self.accepted.until_s(at_us)
        return has_gone_by and now.utc_us >= at_us

    def digest(self) -> bytes:
        """Tell which content the id stands for."""
        text = json.dumps(self.asked.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(f"{self.source.value} {text}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Record:
    """A command and what became of it; `finished_us` is 0 until its state is final."""

    command: Command
    state: State
    detail: str = ""
    finished_us: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """When a hold ends: by the wall, and in seconds of one boot of the machine."""

    until_us: int
    boot: str
    until_s: float

    @classmethod
    def of(cls, length_s: float, now: Moment) -> Self:
        """Begin a lease now."""
        until_us = now.utc_us + int(length_s * MICROSECONDS)
        return cls(until_us, now.boot, now.boot_s + length_s)

    def left_s(self, now: Moment, *, is_synchronised: bool) -> float:
        """Tell how long it still runs, by whichever clock says less and can be believed.

        In its own boot the time that went by counts, whatever the wall says.
        """
        by_wall_s = now.until_s(self.until_us) if is_synchronised else math.inf
        is_same_boot = bool(now.boot) and now.boot == self.boot
        return min(by_wall_s, self.until_s - now.boot_s if is_same_boot else math.inf)

    def in_boot(self, now: Moment, length_s: float, *, is_synchronised: bool) -> "Lease":
        """Go on in another boot of the machine: not longer than it was given for at first."""
        left_s = self.left_s(now, is_synchronised=is_synchronised)
        longest_s = max(length_s - now.boot_s, 0.0)  # it began before this boot
        return Lease(self.until_us, now.boot, now.boot_s + min(max(left_s, 0.0), longest_s))


@dataclass(frozen=True, slots=True)
class Slot:
    """Who holds a point at one priority; without a lease until it is given back."""

    point: str
    priority: int
    value: Value
    command: bytes
    source: Source
    actor: str
    since_us: int
    lease: Lease | None = None

    @property
    def length_s(self) -> float:
        """How long the lease was given for."""
        return (
            math.inf
            if self.lease is None
            else ((self.lease.until_us - self.since_us) / MICROSECONDS)
        )
