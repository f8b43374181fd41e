"""The trial of a configuration that came from central: without a link, the last good one returns.

Time is counted while the gateway runs, and noted on disk, so that neither a jump of the clock nor a
crash, nor a gateway that crashes again and again, keeps a bad configuration for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from edge.agreement import NOTED_S
from edge.config_store import ConfigUnwritable
from edge.twin import ConfigRefused, Twin
from shared.clock import Clock
from shared.logs import get

PROVEN_S: Final = 60.0
"""A link that was up for so long without a break after the change is a good one."""

_log = get("trial")


class Judge:
    """Watches the link while a revision is on trial."""

    def __init__(
        self, twin: Twin, is_up: Callable[[], bool], clock: Clock, tick_s: float = 1.0
    ) -> None:
        """Judge by `is_up`, looked at every `tick_s`."""
        self._twin = twin
        self._is_up = is_up
        self._clock = clock
        self._tick_s = tick_s
        self._begun = asyncio.Event()
        twin.listeners.append(self._begun.set)

    async def run(self) -> None:
        """Judge one trial after the other, for ever."""
        while True:
            if self._twin.trial is not None:
                await self._judged()
            else:
                await self._begun.wait()
            self._begun.clear()

    async def _judged(self) -> None:
        """Watch one trial to its end; another change begins a new one."""
        trial = self._twin.trial
        number = trial.number if trial else 0
        left_s = self._twin.portion_s
        up_s, last_s = 0.0, self._clock.monotonic_s()
        while self._twin.trial is not None and self._twin.trial.number == number:
            await asyncio.sleep(self._tick_s)
            now_s = self._clock.monotonic_s()
            spent_s, last_s = now_s - last_s, now_s
            if self._is_up():
                up_s += spent_s
                if up_s >= PROVEN_S:
                    await self._ended(number)
                continue
            up_s = 0.0
            left_s -= spent_s
            if left_s <= 0:
                left_s = await self._next_portion()
                if left_s <= 0:
                    await self._ended(None)

    async def _next_portion(self) -> float:
        """Take time off the trial before it goes by; tells how much."""
        trial = self._twin.trial
        if trial is None:
            return 0.0
        try:
            await self._twin.note_trial(trial.number, trial.without_portion().left_s)
        except ConfigUnwritable as error:
            # It is taken off in vain then: a full disk prolongs a trial by no more than that.
            _log.warning("the time of a trial could not be noted", error=str(error))
            await asyncio.sleep(self._tick_s)
        return trial.portion_s()

    async def _ended(self, passed: int | None) -> None:
        try:
            if passed is not None:
                await self._twin.note_trial(passed, None)
                _log.info("the link is there: the configuration stays", revision=passed)
            else:
                await self._twin.revert()
        except (ConfigUnwritable, ConfigRefused) as error:
            _log.error("the trial of a configuration could not be ended", error=str(error))
            await asyncio.sleep(NOTED_S)
