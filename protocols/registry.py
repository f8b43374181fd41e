"""Which drivers there are, by name. A driver's libraries are imported only when it is asked for.

Packages of others bring drivers by an entry point of the group `spine.drivers`, whose name is the
driver's and whose object is a function that gives its `DriverType`; see
docs/how-to/write-a-driver.md. A package that is broken stops no other driver.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from protocols.driver import DriverType
from shared.errors import OptionsWrong

GROUP: Final = "spine.drivers"

_BUILT_IN: Final = ("bacnet", "modbus", "mqtt", "opcua")


def names() -> tuple[str, ...]:
    """List the drivers that can be asked for: ours, then those of other packages."""
    return (*_BUILT_IN, *sorted(_foreign()))


def find(name: str) -> DriverType:
    """Load the driver called `name`.

    Raises `OptionsWrong` naming those there are, or what is wrong with the package that brings it.
    """
    if name in _BUILT_IN:
        describe: Callable[[], DriverType] = import_module(f"protocols.{name}").driver_type
        return describe()
    points = _foreign().get(name)
    if points is None:
        msg = f"no driver {name!r}; there are: {', '.join(names())}"
        raise OptionsWrong(msg)
    return _loaded(name, points)


@cache
def _foreign() -> dict[str, tuple[EntryPoint, ...]]:
    """Find the drivers of other packages; a name of ours is ours, whatever a package says."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        if point.name not in _BUILT_IN:
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _loaded(name: str, points: tuple[EntryPoint, ...]) -> DriverType:
    sources = " and ".join(sorted(_package(point) for point in points))
    if len(points) > 1:
        msg = f"driver {name!r} is brought by {sources}: remove all but one of them"
        raise OptionsWrong(msg)
    try:
        described: Any = points[0].load()()
    except Exception as error:  # a package of somebody else may do anything as it is imported
        msg = f"driver {name!r} of {sources} cannot be loaded: {type(error).__name__}: {error}"
        raise OptionsWrong(msg) from error
    if not isinstance(described, DriverType) or described.name != name:
        msg = f"driver {name!r} of {sources} does not describe itself with a DriverType named so"
        raise OptionsWrong(msg)
    return described


def _package(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"
