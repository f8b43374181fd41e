"""What the kernel was told to do to the files of one folder, as strace wrote it down.

It exists to prove that the recorder sees every operation, and in the kernel's order.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.chaos.power_cut_disk import Op

CALLS: Final = (
    "write,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate"
    ",rename,renameat,renameat2,unlink,unlinkat"
)
Deed = tuple[str | int, ...]

_CALL: Final = re.compile(r"^\d+ +(?P<call>\w+)\((?P<operands>.*)\) += (?P<result>\S+)")
_HANDLE: Final = re.compile(r"^\d+<(?P<path>[^>]*)>")
_TEXT: Final = re.compile(r'"([^"]*)"')


def command(log: Path) -> list[str]:
    """Give the command to put before another, or nothing where strace is not installed."""
    strace = shutil.which("strace")
    # -z leaves out calls that failed; -f --seccomp-bpf stops for the traced calls only.
    options = ["-f", "-y", "-z", "-s", "0", "-e", f"trace={CALLS}", "-o", str(log)]
    return [strace, *options] if strace else []


def deeds_of_strace(log: Path, folder: Path) -> list[Deed]:
    """List what was done in `folder`, without the bytes."""
    return [
        deed
        for line in _whole_lines(log.read_text("utf-8", "replace").splitlines())
        if (deed := _deed(line, folder)) is not None
    ]


def _whole_lines(lines: Sequence[str]) -> Iterator[str]:
    """Join the halves of calls during which another thread was stopped."""
    begun: dict[str, str] = {}
    for line in lines:
        thread = line.split(" ", 1)[0]
        if "<unfinished ...>" in line:
            begun[thread] = line.split("<unfinished ...>")[0]
        elif "resumed>" in line:
            yield begun.pop(thread) + line.split("resumed>", 1)[1]
        else:
            yield line


def _deed(line: str, folder: Path) -> Deed | None:
    found = _CALL.match(line)
    if found is None:
        return None
    call, operands = found["call"], found["operands"]
    if call.startswith(("rename", "unlink")):
        paths = [Path(text) for text in _TEXT.findall(operands)]
        here = all(path.parent == folder for path in paths)
        return (call.rstrip("at2"), *(path.name for path in paths)) if here else None
    handle = _HANDLE.match(operands)
    path = Path(handle["path"]) if handle else Path()
    if path == folder:
        return ("sync_folder",)
    return _done_to(path.name, call, operands) if path.parent == folder else None


def _done_to(name: str, call: str, operands: str) -> Deed:
    numbers = [part.strip() for part in operands.split(",")]
    match call:
        case "fsync" | "fdatasync":
            return ("sync", name)
        case "ftruncate":
            return ("truncate", name, int(numbers[-1]))
        case "pwrite64":
            return ("write", name, int(numbers[-1]), int(numbers[-2]))
    return (call, name)


def deeds_of_trace(ops: Sequence[Op]) -> list[Deed]:
    """List what a trace says was done, without the bytes and the creations."""
    names: dict[int, str] = {}
    deeds: list[Deed] = []
    for op in ops:
        match op:
            case ["create", name, file]:
                names[file] = name
            case ["write", file, offset, data]:
                deeds.append(("write", names[file], offset, len(data)))
            case ["truncate" | "sync", file, *size]:
                deeds.append((op[0], names[file], *size))
            case ["rename" | "unlink" | "sync_folder", *of_names]:
                deeds.append((op[0], *of_names))
                _rename(names, of_names)
    return deeds


def _rename(names: dict[int, str], of_names: Sequence[str]) -> None:
    if len(of_names) == 2:
        numbers = [number for number, name in names.items() if name == of_names[0]]
        names[numbers[-1]] = of_names[1]
