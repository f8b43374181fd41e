"""One write to a device and the proof of it: written once, read back, and said what is known."""

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from edge.commands.command import State
from edge.commands.way import Target, Way
from edge.writable import Value
from protocols.driver import Driver, Writing
from shared.clock import Clock
from shared.errors import DriverError, LinkLost, OptionsWrong, Refused
from shared.logs import get
from shared.quality import QualityClass, Reason, class_of, reason_of

WRITE_S: Final = 30.0
"""A device may take so long to confirm a write; it is not known then what it did."""

READ_S: Final = 10.0
READ_AGAIN_S: Final = 0.2

Timeout = Callable[[float], AbstractAsyncContextManager[Any]]

_log = get("commands")


@dataclass(frozen=True, slots=True)
class Result:
    """What is known after a write; `is_touched` tells whether the device may have changed."""

    state: State
    detail: str = ""
    is_touched: bool = True


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes over the running connections."""

    way: Way
    clock: Clock
    timeout: Timeout = asyncio.timeout
    """Ends a wait after some seconds by `TimeoutError`."""
    again_s: float = READ_AGAIN_S

    async def carry_out(
        self, target: Target, value: Value | None, priority: int, left_s: float
    ) -> Result:
        """Write once within `left_s`, then read until the point is as it was written."""
        driver = target.writing
        if driver is None or target.driver is None:
            return Result(State.FAILED, "the connection was lost before the write", False)
        result = await self._written(driver, target, value, priority, min(left_s, WRITE_S))
        if result is not None:
            return result
        if value is None or not target.limits.verify_within_s:
            return Result(State.DONE, "the device confirmed it; it was not read back")
        return await self._verified(target.driver, target, value)

    async def _written(
        self, driver: Writing, target: Target, value: Value | None, priority: int, limit_s: float
    ) -> Result | None:
        """Write; None where the device confirmed it."""
        try:
            async with self.timeout(limit_s):
                await driver.write(target.source, value, priority)
        except OptionsWrong as error:
            return Result(State.REFUSED, str(error), is_touched=False)
        except Refused as error:
            return Result(State.FAILED, str(error), is_touched=False)
        except (LinkLost, TimeoutError) as error:
            text = str(error) or "the device did not confirm it in time"
            return Result(State.UNKNOWN, text)
        except Exception as error:  # noqa: BLE001 - a defect of a driver: nobody knows what it did
            _log.exception("driver failed", device=target.device)
            return Result(State.UNKNOWN, f"the driver failed: {error}")
        return None

    async def _verified(self, driver: Driver, target: Target, value: Value) -> Result:
        began_s = self.clock.monotonic_s()
        limit_s = target.limits.verify_within_s
        while True:
            gone_s = self.clock.monotonic_s() - began_s
            is_last = gone_s >= limit_s
            # A device that only tells of changes has nothing to tell if it was so before.
            found = await self._read(driver, target, math.inf if is_last else gone_s)
            if found is not None and target.limits.is_as_written(value, found):
                return Result(State.DONE, f"reads {_shown(found)}")
            if is_last and found is None:
                return Result(State.UNKNOWN, "written, but it could not be read back")
            if is_last:
                return Result(State.FAILED, f"written {_shown(value)}, but reads {_shown(found)}")
            await asyncio.sleep(self.again_s)

    async def _read(self, driver: Driver, target: Target, since_s: float) -> Value | None:
        """Read the point; None where there is no good value."""
        try:
            async with self.timeout(READ_S):
                return await self._asked(driver, target, since_s)
        except (DriverError, TimeoutError):
            return None
        except Exception:  # noqa: BLE001 - a defect of a driver: nothing was read
            _log.exception("driver failed", device=target.device)
            return None

    async def _asked(self, driver: Driver, target: Target, since_s: float) -> Value | None:
        columns = await driver.read(driver.plan((target.source,)))
        quality = int(columns.quality[0])
        if reason_of(quality) is Reason.NOT_YET_REPORTED:
            # A device that only tells by itself: what it told since the write.
            heard = self.way.heard(target.source.point.key)
            return heard.value if heard is not None and heard.age_s <= since_s else None
        if class_of(quality) is QualityClass.BAD:
            return None
        return columns.texts[0] if 0 in columns.texts else float(columns.value[0])


def _shown(value: Value | None) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
