"""One read of a plan: asks for every block, gathers the image, finds out what is refused."""

from typing import Final

import numpy as np

from protocols.modbus.bus import Line
from protocols.modbus.codec import ILLEGAL_ADDRESS, Failed, answer_data
from protocols.modbus.plan import Block, Plan
from protocols.modbus.spans import Span, is_bits
from shared.clock import Clock

MAX_STEPS: Final = 32
"""Steps of halving in one read; the next read goes on, so that none takes for ever."""


class Sweep:
    """Holds what one read of `plan` has gathered: `image` and `quality`, complete after `run`."""

    def __init__(self, line: Line, plan: Plan, clock: Clock) -> None:
        """Start with an empty image, every row good but for the plan's holes."""
        plan.tidy()
        self._answered: list[Span] = []
        self.image = bytearray(plan.image_bytes)
        self.quality = plan.quality()
        self._line = line
        self._plan = plan
        self._clock = clock
        self._steps_left = MAX_STEPS

    async def run(self) -> None:
        """Ask for every block, halve what is refused, try one hole that is due; or `LinkLost`."""
        blocks = tuple(self._plan.blocks)
        answers = await self._line.ask([block.pdu for block in blocks])
        failed: Failed | None = None
        refused: list[Block] = []
        for block, answer in zip(blocks, answers, strict=False):
            failed = self._take(block, answer)
            if failed is not None and failed.code == ILLEGAL_ADDRESS:
                refused.append(block)
        if failed is not None:
            for block in blocks[len(answers) :]:  # a gateway ended the row
                self.quality[block.rows] = failed.quality
        for block in refused:
            await self._isolate(block)
        if self._plan.holes:
            await self._retry_hole()
        self._plan.learn(self._answered)

    async def _isolate(self, block: Block) -> None:
        """Halve a refused block until what the device does not know is alone."""
        if self._steps_left == 0:
            return
        self._steps_left -= 1
        if len(block.spans) == 1:
            self._plan.bury(block, self._clock.monotonic_s())
            return
        for half in self._plan.halve(block):
            failed = await self._ask(half)
            if failed is not None and failed.code == ILLEGAL_ADDRESS:
                await self._isolate(half)

    async def _retry_hole(self) -> None:
        hole = self._plan.due_hole(self._clock.monotonic_s())
        if hole is None:
            return
        if await self._ask(hole.block) is None:
            self._plan.fill(hole)
        else:
            self._plan.keep(hole, self._clock.monotonic_s())

    async def _ask(self, block: Block) -> Failed | None:
        """Ask for one block alone; its rows are good again if it is answered."""
        (answer,) = await self._line.ask([block.pdu])
        failed = self._take(block, answer)
        if failed is None:
            self.quality[block.rows] = 0
        return failed

    def _take(self, block: Block, answer: bytes) -> Failed | None:
        """Put an answer's data into the image, or the reason why there is none on its rows."""
        try:
            data = answer_data(answer, block.span.table, block.count)
        except Failed as failed:
            self.quality[block.rows] = failed.quality
            return failed
        if is_bits(block.span.table):
            bits = np.unpackbits(
                np.frombuffer(data, np.uint8), count=block.count, bitorder="little"
            )
            data = bits.tobytes()
        self.image[block.at : block.at + len(data)] = data
        self._answered.append(block.span)
        return None
