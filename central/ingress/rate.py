"""How often an address may try: a sliding window of moments, bounded in addresses."""

from collections import OrderedDict, deque
from typing import Final

from shared.clock import Clock

MAX_ADDRESSES: Final = 10_000


class RateLimit:
    """At most `tries` in `window_s` for each address; the longest unseen address is forgotten."""

    def __init__(self, clock: Clock, tries: int, window_s: float) -> None:
        self._clock = clock
        self._tries = tries
        self._window_s = window_s
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Count a try: 0 where it is allowed, else the seconds until the next one is."""
        now = self._clock.monotonic_s()
        moments = self._seen.setdefault(address, deque())
        self._seen.move_to_end(address)
        if len(self._seen) > MAX_ADDRESSES:
            self._seen.popitem(last=False)
        while moments and now - moments[0] >= self._window_s:
            moments.popleft()
        if len(moments) >= self._tries:
            return moments[0] + self._window_s - now
        moments.append(now)
        return 0.0
