"""A serial line between two pseudo terminals: what is written to one end is read at the other."""

import asyncio
import os
import tty
from contextlib import suppress
from pathlib import Path


class SerialLine:
    """Plugged in, `ours` and `theirs` are paths of serial devices, the same after each plugging."""

    def __init__(self, folder: Path) -> None:
        self.ours = folder / "ours"
        self.theirs = folder / "theirs"
        self.noise = b""
        """What disturbs the next bytes that come to our end, once."""
        self._masters: list[int] = []

    def plug_in(self) -> None:
        loop = asyncio.get_running_loop()
        for path in (self.ours, self.theirs):
            master, slave = os.openpty()
            tty.setraw(slave)
            path.unlink(missing_ok=True)
            path.symlink_to(os.ttyname(slave))
            os.close(slave)
            os.set_blocking(master, False)
            self._masters.append(master)
        ours, theirs = self._masters
        loop.add_reader(ours, self._pass_on, ours, theirs)
        loop.add_reader(theirs, self._pass_on, theirs, ours)

    def _pass_on(self, source: int, target: int) -> None:
        # EIO while nobody has the other end open.
        with suppress(OSError):
            data = os.read(source, 4_096)
            if target == self._masters[0] and self.noise:
                data, self.noise = self.noise + data, b""
            os.write(target, data)

    def pull_out(self) -> None:
        masters, self._masters = self._masters, []
        for master in masters:
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
        for path in (self.ours, self.theirs):
            path.unlink(missing_ok=True)
