"""Software that is installed once and shared by all stacks, read-only, whole or not at all."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_MANIFEST: Final = ".whole"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder with one folder a piece of software: `<name>-<version>`.

    An installation is made beside its place and renamed when it is whole. A list of its files
    and their sizes tells a damaged one, which is then made anew.
    """

    folder: Path
    tell: Callable[[str], None] = lambda _: None
    """Gets a line for people when something is installed, which takes its time."""

    @classmethod
    def of_user(cls, tell: Callable[[str], None] = lambda _: None) -> Self:
        """Take the cache of the user who runs this."""
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(base) / "spine" / "stack", tell)

    def path(self, name: str, version: str) -> Path:
        """Tell where a piece of software is once it is installed."""
        return self.folder / f"{name}-{version}"

    def holds(self, name: str, version: str) -> bool:
        """Tell whether a piece of software is there and whole."""
        place = self.path(name, version)
        try:
            listed = json.loads((place / _MANIFEST).read_text())
        except (OSError, ValueError):
            return False
        return bool(listed == _list(place))

    def place(self, name: str, version: str, fill: Callable[[Path], None]) -> Path:
        """Give the software's folder; `fill` fills an empty one where it is not there or not whole.

        Who comes while another process or thread fills waits for it. The folder that `fill` gets
        is renamed afterwards, so nothing in it may name its own path.
        """
        place = self.path(name, version)
        if self.holds(name, version):
            return place
        with self._locked(place.name):
            if not self.holds(name, version):
                self.tell(f"{name}: installing {version} (once) …")
                self._make(place, fill)
        return place

    def _make(self, place: Path, fill: Callable[[Path], None]) -> None:
        fresh = place.with_name(f".{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            fill(fresh)
            (fresh / _MANIFEST).write_text(json.dumps(_list(fresh)))
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{name}.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _list(folder: Path) -> dict[str, int]:
    """List all files with their sizes; the manifest itself and links are left out."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink() and path.is_file():
                found[str(path.relative_to(folder))] = path.stat().st_size
    found.pop(_MANIFEST, None)
    return found
