"""A file of Java's properties, whatever the values hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.pki import write_private

_LAST_ASCII: Final = 0x7E


def write_properties(path: Path, values: Mapping[str, object]) -> None:
    """Write properties so that their owner alone can read them: some are passwords."""
    lines = (f"{name}={_escaped(str(value))}\n" for name, value in values.items())
    write_private(path, "".join(lines).encode())


def _escaped(value: str) -> str:
    """Write what is not ASCII by its number, for some read Latin-1 and others UTF-8."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    numbers = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(one) if one <= _LAST_ASCII else f"\\u{one:04x}" for one in numbers)
