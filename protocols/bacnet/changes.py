"""What is known of each point that a device tells of, so that only what is new goes on. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from protocols.bacnet import codec
from protocols.bacnet.cov import Place, Watch
from protocols.bacnet.notices import Notice
from shared.columns import Columns
from shared.model import PointType

PRESENT_VALUE: Final = "present-value"

Row = tuple[int, codec.Read]


class Changes:
    """The last reading of each row."""

    def __init__(self, types: Sequence[PointType]) -> None:
        """Know nothing yet of the rows, which are of these types."""
        self._types = types
        self._last: dict[int, codec.Read] = {}

    def told(self, rows: Sequence[int], notice: Notice) -> list[Row] | None:
        """Read a notice, but for what it repeats; None if it does not hold the present value."""
        if PRESENT_VALUE not in notice.values:
            return None
        value, flags = notice.values[PRESENT_VALUE], notice.values.get("status-flags")
        return self.new([(row, codec.reading(value, flags, self._types[row])) for row in rows])

    def new(self, readings: Sequence[Row]) -> list[Row]:
        """Keep what differs from the last reading of its row."""
        found = [(row, read) for row, read in readings if self._last.get(row) != read]
        self._last.update(found)
        return found


def watch_of(places: Sequence[Place | None]) -> Watch:
    """Watch the object of each row; a row without one is read."""
    rows: dict[Place, list[int]] = {}
    for row, place in enumerate(places):
        if place is not None:
            rows.setdefault(place, []).append(row)
    return Watch(rows, {row for row, place in enumerate(places) if place is None})


def refusals(watch: Watch, quality_of: Callable[[str], int]) -> list[Row]:
    """Give a bad reading for each row whose object the device does not tell of."""
    nothing = float("nan")
    return [
        (row, (nothing, None, quality_of(word)))
        for place, word in watch.refused.items()
        for row in watch.rows[place]
    ]


def missed(watch: Watch, rows: Sequence[Row]) -> list[Place]:
    """List the objects of which these rows tell something new that the device should have told.

    An analog value may have changed by less than its increment; anything else may not.
    """
    of_row: Mapping[int, Place] = {
        row: place for place, several in watch.rows.items() for row in several
    }
    places = [of_row[row] for row, _ in rows]
    return [place for place in places if "analog" not in place[0]]


def columns_of(rows: Sequence[Row], now_us: int) -> Columns:
    """Make columns of readings."""
    texts: dict[int, Any] = {
        at: text for at, (_, (_, text, _)) in enumerate(rows) if text is not None
    }
    series = [row for row, _ in rows]
    values = [read[0] for _, read in rows]
    qualities = [read[2] for _, read in rows]
    return Columns.of(series, [now_us] * len(rows), values, qualities, texts)
