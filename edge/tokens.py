"""The tokens of a device's committed deliveries, as long as one may still come again.

A delivery comes again if its acknowledgement did not reach the sender. What was acknowledged
`KEPT_US` before the newest one surely did: the connection has been seen alive since then. Ages are
those of the running gateway, on its monotonic clock: while it was off, no acknowledgement arrived.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.clock import MICROSECONDS

KEPT_US: Final = 120 * MICROSECONDS


@dataclass(slots=True)
class Tokens:
    """Tokens in the order of their commits; `_groups` says how many came when (monotonic)."""

    _known: deque[bytes] = field(default_factory=deque)
    _groups: deque[tuple[int, int]] = field(default_factory=deque)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._known)

    def add(self, tokens: Sequence[bytes], at_us: int, kept: int) -> None:
        """Take in tokens committed at `at_us`; the newest `kept` at the most are kept."""
        self._known.extend(tokens)
        if self._groups and at_us - self._groups[-1][0] < MICROSECONDS:
            begun_us, count = self._groups.pop()
            self._groups.append((begun_us, count + len(tokens)))
        else:
            self._groups.append((at_us, len(tokens)))
        while self._groups[0][0] < at_us - KEPT_US:
            self._forget(self._groups.popleft()[1])
        over = len(self._known) - kept
        while over > 0:
            begun_us, count = self._groups.popleft()
            if count > over:
                self._groups.appendleft((begun_us, count - over))
            self._forget(min(count, over))
            over -= count

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._known.popleft()

    def renew(self, at_us: int) -> None:
        """Count the age of all from `at_us`: the gateway has started."""
        self._groups = deque([(at_us, len(self._known))] if self._known else ())

    def copy(self) -> "Tokens":
        """Make tokens that can be changed alone."""
        return Tokens(self._known.copy(), self._groups.copy())

    def pack(self) -> list[Any]:
        """Write them for the tail."""
        return [list(self._known), list(self._groups)]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> "Tokens":
        """Read what `pack` wrote."""
        known, groups = packed
        return cls(deque(known), deque((at_us, count) for at_us, count in groups))
