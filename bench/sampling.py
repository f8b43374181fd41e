"""Where the time of a process goes: samples of its stacks by py-spy, as a table of functions."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

RATE: Final = 200
"""Samples a second."""
_LINES: Final = 30
_LONGEST_S: Final = 600


def py_spy() -> str | None:
    """Find py-spy, beside this Python or on the path; None where it is not installed."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("py-spy", path=places)


@contextmanager
def sampled(pids: Mapping[str, int], folder: Path) -> Iterator[dict[str, Path]]:
    """Sample processes while the context lasts; `<name>.raw` of each are there after it."""
    program = py_spy()
    assert program is not None, "ask py_spy() first"
    written = {name: folder / f"{name}.raw" for name in pids}
    with ExitStack() as stack:
        for name, pid in pids.items():
            stack.enter_context(_recording(program, pid, written[name]))
        yield written


@contextmanager
def _recording(program: str, pid: int, path: Path) -> Iterator[None]:
    options = [
        "-r",
        str(RATE),
        "-d",
        str(_LONGEST_S),
        "-f",
        "raw",
        "-o",
        str(path),
        "--nonblocking",
    ]
    recorder = subprocess.Popen(
        [program, "record", "-p", str(pid), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        recorder.send_signal(signal.SIGINT)  # it writes what it has
        _, said = recorder.communicate(timeout=60)
    assert path.exists(), f"py-spy wrote nothing: {said}"


def table(raw: str) -> str:
    """Make a table of stacks: functions by the share of samples in themselves, and in all below."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        total += int(count)
        alone[frames[-1]] += int(count)
        within.update(dict.fromkeys(frames, int(count)))
    parts = [f"{total} samples\n"]
    for title, counter in (("in the function itself", alone), ("with all it calls", within)):
        lines = [f"{count / total:6.1%}  {name}" for name, count in counter.most_common(_LINES)]
        parts.append("\n".join([title, *lines]) + "\n")
    return "\n".join(parts)


def _short(frame: str) -> str:
    """Leave out where the libraries are installed."""
    name, _, place = frame.partition(" (")
    for root in ("site-packages/", "python3.11/", f"{Path(__file__).parents[1]}/"):
        place = place.rpartition(root)[2]
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})"
