"""Where each point of a model lies in a device, repeating groups included. Pure.

Source: "SunSpec Device Information Model Specification" V1.1 (points, groups, scale factors).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from protocols.modbus.sunspec.definitions import Group

MAX_FIELDS: Final = 2_000
"""More points of one model are not told: a count register may say anything."""

UNKNOWN_SCALE: Final = -1
"""The model names a scale factor that it does not have."""

_COUNT_NOT_TOLD: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Field:
    """A point of a device: what the model says of it, and where its registers begin.

    `path` names the groups it is in with their numbers (`Crv2`, `Pt1`). Its power of ten is
    `power`, or in the register `scale_at`.
    """

    path: tuple[str, ...]
    point: Mapping[str, Any]
    address: int
    power: int = 0
    scale_at: int | None = None

    @property
    def name(self) -> str:
        """Name it as SunSpec does, unique in its model."""
        return ".".join((*self.path, self.point["name"]))


@dataclass(frozen=True, slots=True)
class _Scope:
    """The groups around a point, the inmost first: where each point of them begins."""

    places: dict[str, int]
    around: "_Scope | None" = None

    def find(self, name: str) -> int | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.places:
                return scope.places[name]
            scope = scope.around
        return None


class Layout:
    """Lays a definition over the registers of a model, its header included."""

    def __init__(self, group: Group, address: int, registers: bytes) -> None:
        """Take what the device holds from `address` on."""
        self._group = group
        self._address = address
        self._registers = registers
        self._at = 0
        self._left = MAX_FIELDS

    def fields(self) -> Iterator[Field]:
        """Give the points that the device has room for, in order."""
        yield from self._instance(self._group, (), None)

    def _instance(
        self, group: Group, path: tuple[str, ...], around: _Scope | None
    ) -> Iterator[Field]:
        scope = _Scope({}, around)
        placed = list(self._placed(group, scope))
        for point, address in placed:
            power, scale_at = _scale(point.get("sf"), scope)
            yield Field(path, point, address, power, scale_at)
        for inner in group.get("groups", ()):
            yield from self._repeated(inner, path, scope)

    def _placed(self, group: Group, scope: _Scope) -> Iterator[tuple[Mapping[str, Any], int]]:
        for point in group.get("points", ()):
            size = int(point["size"])
            if not self._has_room(size) or self._left == 0:
                self._left = 0
                return
            scope.places[point["name"]] = address = self._address + self._at
            self._at += size
            self._left -= 1
            yield point, address

    def _repeated(self, group: Group, path: tuple[str, ...], scope: _Scope) -> Iterator[Field]:
        count = self._count(group.get("count"), scope)
        nth = 0
        while (count is None or nth < count) and self._left and self._has_room(1):
            nth += 1
            is_one = group.get("count") is None
            name = group["name"] if is_one else f"{group['name']}{nth}"
            before = self._at
            yield from self._instance(group, (*path, name), scope)
            if self._at == before:
                return

    def _count(self, told: int | str | None, scope: _Scope) -> int | None:
        """Tell how often a group comes; None: as often as there is room."""
        if told is None:
            return 1
        if isinstance(told, int):
            return told or None
        place = scope.find(told)
        if place is None:
            return 0
        at = 2 * (place - self._address)
        count = int.from_bytes(self._registers[at : at + 2], "big")
        return 0 if count == _COUNT_NOT_TOLD else count

    def _has_room(self, size: int) -> bool:
        return 2 * (self._at + size) <= len(self._registers)


def _scale(told: int | str | None, scope: _Scope) -> tuple[int, int | None]:
    if told is None or isinstance(told, int):
        return told or 0, None
    place = scope.find(told)
    return 0, UNKNOWN_SCALE if place is None else place
