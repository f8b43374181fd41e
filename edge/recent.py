"""The newest batches, in memory too: what was just committed need not be read back to be sent."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from edge.sealed import Sealed

MOST_BYTES: Final = 256 * 1024
MOST_BATCHES: Final = 64


class Recent:
    """The last batches that were committed in a row, as many as there is room for."""

    def __init__(self) -> None:
        """Know none."""
        self._batches: deque[Sealed] = deque()
        self._bytes = 0

    def add(self, batches: Sequence[Sealed]) -> None:
        """Take in what was committed, oldest first."""
        for one in batches:
            if self._batches and one.id != self._batches[-1].id + 1:
                self._batches.clear()
                self._bytes = 0
            self._batches.append(one)
            self._bytes += len(one.body)
        while self._bytes > MOST_BYTES or len(self._batches) > MOST_BATCHES:
            self._bytes -= len(self._batches.popleft().body)

    def between(self, after: int, below: int) -> list[Sealed] | None:
        """List those with `after` < id < `below`; None where it does not reach back so far.

        Some of them may have left the file since.
        """
        if not self._batches or after + 1 < self._batches[0].id:
            return None
        return [one for one in self._batches if after < one.id < below]
