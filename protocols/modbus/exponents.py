"""Powers of ten that devices tell in a register beside the value, as SunSpec's scale factors do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.quality import Reason, bad

NOT_IMPLEMENTED: Final = bad(Reason.NOT_IMPLEMENTED)
OUT_OF_RANGE: Final = bad(Reason.OUT_OF_RANGE)
MOST: Final = 10
_NONE: Final = -0x8000


@dataclass(frozen=True, slots=True, eq=False)
class Exponents:
    """Rows that are scaled so, and where the two bytes of each one's register lie."""

    rows: NDArray[np.intp]
    index: NDArray[np.intp]

    @classmethod
    def of(cls, places: Sequence[tuple[int, int, int]]) -> "Exponents | None":
        """Take (row, place of the high byte, place of the low byte); None where there are none."""
        if not places:
            return None
        rows, high, low = zip(*places, strict=True)
        return cls(np.array(rows, np.intp), np.column_stack((high, low)).ravel())

    def apply(
        self, image: NDArray[np.uint8], value: NDArray[np.float64], quality: NDArray[np.uint16]
    ) -> None:
        """Scale the rows; where the device tells no power of ten that can be, they are bad."""
        powers = image[self.index].view(">i2").astype(np.int64)
        is_wrong = np.abs(powers) > MOST
        for row, power in zip(self.rows[is_wrong], powers[is_wrong], strict=True):
            if not quality[row]:
                quality[row] = NOT_IMPLEMENTED if power == _NONE else OUT_OF_RANGE
        powers[is_wrong] = 0
        # Divided where it can be: 3 tenths are 0.3, and not 0.30000000000000004.
        value[self.rows] *= 10.0 ** np.maximum(powers, 0)
        value[self.rows] /= 10.0 ** np.maximum(-powers, 0)
