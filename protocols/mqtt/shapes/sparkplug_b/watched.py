"""Which metrics of an edge node are points, and which elements of arrays."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

_ELEMENT: Final = re.compile(r"(.+)\[(\d{1,5})\]")


class Watched:
    """The points of one edge node, by device (empty: its own) and metric.

    A point called `name[2]` is element 2 of the array `name`, unless a metric has just that name.
    """

    def __init__(self, points: Iterable[tuple[str, str]] = ()) -> None:
        names = set(points)
        self._elements: dict[tuple[str, str], list[int]] = {}
        for device, name in sorted(names):
            found = _ELEMENT.fullmatch(name)
            if found is not None:
                self._elements.setdefault((device, found[1]), []).append(int(found[2]))
        self.devices = frozenset(device for device, _ in names if device)
        self.names = frozenset(names | set(self._elements))

    def wants(self, device: str, name: str) -> bool:
        """Tell whether a metric is read; all are where nothing is a point."""
        return not self.names or (device, name) in self.names

    def elements(self, device: str, name: str) -> Sequence[int]:
        """Tell which elements of a metric are points."""
        return self._elements.get((device, name), ())
