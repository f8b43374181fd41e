"""Which drivers there are, by name. A driver's libraries are imported only when it is asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from protocols.driver import DriverType
from shared.errors import OptionsWrong

_BUILT_IN: Final = ("modbus", "mqtt", "opcua")


def names() -> tuple[str, ...]:
    """List the drivers that can be asked for."""
    return _BUILT_IN


def find(name: str) -> DriverType:
    """Load the driver called `name`; raises `OptionsWrong` naming those there are."""
    if name not in _BUILT_IN:
        msg = f"no driver {name!r}; there are: {', '.join(_BUILT_IN)}"
        raise OptionsWrong(msg)
    describe: Callable[[], DriverType] = import_module(f"protocols.{name}").driver_type
    return describe()
