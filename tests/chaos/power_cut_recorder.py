"""Records what a process does to the files of one folder: SQLite's calls and Python's own.

SQLite's are seen by a VFS of ours that passes them on, so neither root nor strace is needed. The
one thing a VFS does not see is that SQLite syncs the folder with the first sync of a new journal or
WAL; `test_power_cut.py` proves by strace, where it is installed, that the kernel is told the same.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

import apsw

from tests.chaos.power_cut_disk import Op

_SYSTEM: Final = apsw.vfs_names()[0]
_SYNCS_ITS_FOLDER: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


class Recorder:
    """The trace of one folder, from now on, for the rest of the process's life."""

    def __init__(self, folder: Path) -> None:
        self.ops: list[Op] = []
        self._folder = folder
        self._files: dict[str, int] = {}
        self._made = 0
        self._vfs = _Vfs(self)
        self._fsync = os.fsync
        os.fsync = self._synced  # type: ignore[assignment]  # narrower: file descriptors only
        sys.addaudithook(self._audit)

    def mark(self, what: str, **facts: Any) -> None:
        """Note in the trace that something is true from here on."""
        self.ops.append(["mark", what, facts])

    def created(self, name: str) -> int:
        self._made += 1
        self._files[name] = self._made
        self.ops.append(["create", name, self._made])
        return self._made

    def number_of(self, name: str) -> int:
        return self._files[name] if name in self._files else self.created(name)

    def unlinked(self, name: str) -> None:
        self._files.pop(name, None)
        self.ops.append(["unlink", name])

    def _synced(self, handle: int) -> None:
        self._fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path == self._folder:
            self.ops.append(["sync_folder"])
        elif path.parent == self._folder:
            self.ops.append(["sync", self._files[path.name]])

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("os.rename", "os.remove", "open"):
            return
        path = Path(str(arguments[0]))
        if path.parent != self._folder:
            return
        if event == "os.rename":
            new = Path(str(arguments[1])).name
            self._files[new] = self._files.pop(path.name)
            self.ops.append(["rename", path.name, new])
        elif event == "os.remove" and path.exists():
            self.unlinked(path.name)
        elif event == "open" and arguments[2] & os.O_CREAT and not path.exists():
            self.created(path.name)


class _Vfs(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__("recording", _SYSTEM, makedefault=True)

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _File(self._recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        super().xDelete(filename, syncdir)
        self._recorder.unlinked(Path(filename).name)
        if syncdir:
            self._recorder.ops.append(["sync_folder"])


class _File(apsw.VFSFile):
    def __init__(
        self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        is_new = not path.exists()
        super().__init__(_SYSTEM, name, flags)
        self._ops = recorder.ops
        self._number = recorder.created(path.name) if is_new else recorder.number_of(path.name)
        self._folder_is_due = is_new and bool(flags[0] & _SYNCS_ITS_FOLDER)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._ops.append(["write", self._number, offset, bytes(data)])

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(newsize)
        self._ops.append(["truncate", self._number, newsize])

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self._ops.append(["sync", self._number])
        if self._folder_is_due:
            self._ops.append(["sync_folder"])
            self._folder_is_due = False
