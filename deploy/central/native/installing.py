"""Running the tools that install: their output is kept back, and shown when one fails."""

import os
import subprocess
from collections.abc import Sequence
from typing import Final

from deploy.central.native.service import StackFailed

_LIMIT_S: Final = 900.0
_LINES: Final = 15


def run(command: Sequence[str], timeout_s: float = _LIMIT_S) -> str:
    """Run a tool to its end and give what it said; raises `StackFailed` with its last lines."""
    try:
        done = subprocess.run(
            command,
            # One language, for some of it is read; and file names are what they are here.
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise StackFailed(f"{command[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise StackFailed(f"{_short(command)} takes longer than {timeout_s:g} s") from error
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-_LINES:])
        raise StackFailed(f"{_short(command)} failed ({done.returncode}):\n{last}")
    return done.stdout


def _short(command: Sequence[str]) -> str:
    return " ".join(command[:6]) + (" …" if len(command) > 6 else "")
