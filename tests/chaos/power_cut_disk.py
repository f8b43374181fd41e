"""A disk as it is after a power cut: what was synced, and of the rest whatever chance left.

A trace is a list of operations on one folder. Contents and names are durable apart: a file's bytes
by a sync of the file, its name by a sync of the folder. Of writes that no sync covers any subset
may have reached the disk, in any order, whole or in sectors; of changes of names, which file
systems keep in a journal, any prefix.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SECTOR_BYTES: Final = 512
TORN: Final = 0.2
"""The share of the kept writes of which only some sectors arrived."""

Op = list[Any]
"""What was done: `[name of the operation, its operands …]`; see `Disk.apply`."""


@dataclass(slots=True)
class _Content:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)

    def sync(self) -> None:
        for op in self.pending:
            _write(self.durable, op)
        self.pending.clear()


@dataclass(slots=True)
class Disk:
    """One folder, to which a trace is applied step by step."""

    files: dict[int, _Content] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    durable_names: dict[str, int] = field(default_factory=dict)
    renaming: list[Op] = field(default_factory=list)

    def apply(self, op: Op) -> None:
        """Take in one operation; what is none of the disk's (a mark) is passed over."""
        match op:
            case ["create", name, file]:
                self.files[file] = _Content()
                self._rename(op)
                self.names[name] = file
            case ["write" | "truncate", file, *_]:
                self.files[file].pending.append(op)
            case ["sync", file]:
                self.files[file].sync()
            case ["sync_folder"]:
                self.durable_names = dict(self.names)
                self.renaming.clear()
            case ["rename" | "unlink", *_]:
                self._rename(op)

    def _rename(self, op: Op) -> None:
        self.renaming.append(op)
        _change_names(self.names, op)

    def after_cut(self, rng: random.Random) -> dict[str, bytes]:
        """Say what the folder holds when power comes back."""
        names = dict(self.durable_names)
        for op in self.renaming[: rng.randint(0, len(self.renaming))]:
            _change_names(names, op)
        kept = rng.choice((0.0, 1.0, rng.random(), rng.random()))
        return {name: self._content(file, kept, rng) for name, file in names.items()}

    def _content(self, file: int, kept: float, rng: random.Random) -> bytes:
        content = bytearray(self.files[file].durable)
        for op in self.files[file].pending:
            if rng.random() < kept:
                _write(content, op, rng if rng.random() < TORN else None)
        return bytes(content)


def _change_names(names: dict[str, int], op: Op) -> None:
    match op:
        case ["create", name, file]:
            names[name] = file
        case ["rename", old, new] if old in names:
            names[new] = names.pop(old)
        case ["unlink", name]:
            names.pop(name, None)


def _write(content: bytearray, op: Op, torn: random.Random | None = None) -> None:
    match op:
        case ["truncate", _, size]:
            del content[size:]
            content.extend(bytes(size - len(content)))
        case ["write", _, offset, data]:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            for start in range(0, len(data), SECTOR_BYTES if torn else max(1, len(data))):
                end = start + SECTOR_BYTES if torn else len(data)
                if torn is None or torn.random() < 0.5:
                    content[offset + start : offset + min(end, len(data))] = data[start:end]


def write_out(folder: Path, files: dict[str, bytes]) -> None:
    """Make `folder` hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def names_of(ops: Iterable[Op]) -> list[str]:
    """List the operations by name, without their operands, for comparing traces."""
    return [str(op[0]) for op in ops if op[0] != "mark"]
