"""The servers of a stack as a supervisor's charges."""

from collections.abc import Callable
from pathlib import Path

from deploy.central.native.launcher import Launcher
from shared.errors import SpineError


class StackCharges:
    """Servers that are started again when they end by themselves; those taken down stay down."""

    def __init__(self, stack: Launcher, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._say = say

    def end_of(self, name: str) -> str | None:
        """Tell that a server has ended; how, its log alone can tell."""
        return "for a reason its log may tell" if name in self._stack.lost() else None

    def start_again(self, name: str) -> None:
        """Start a server with its ports and data; what keeps it from starting is said."""
        try:
            self._stack.revive(name)
        except (SpineError, OSError) as error:
            self._say(f"{name} could not be started: {error}")

    def log(self, name: str) -> Path:
        """Tell where a server writes."""
        return self._stack.log(name)
