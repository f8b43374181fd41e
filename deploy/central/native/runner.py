"""One instance: how it is started until it serves, and how it is ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final

from deploy.central.native import processes
from deploy.central.native.ports import is_free
from deploy.central.native.processes import Process
from deploy.central.native.service import Instance, Service, StackFailed
from deploy.central.native.state import StateFile, noted_now
from deploy.central.native.status import serves

POLL_S: Final = 0.1
STOP_S: Final = 20.0
KILL_S: Final = 30.0
_LINES: Final = 12
_LOG_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Runner:
    """Starts and ends one instance; `given_up` ends all waiting for a start."""

    service: Service
    instance: Instance
    file: StateFile
    tell: Callable[[str], None]
    given_up: Event

    def begin(self) -> None:
        """Start the server where it does not run; it need not serve yet."""
        with self.file.locked(self.instance.name):
            if self._process() is None:
                self._clear()
                self.service.prepare(self.instance)
                self._spawn()

    def finish(self) -> None:
        """Wait until the server serves, and do what needs it running."""
        until = time.monotonic() + self.service.start_s
        while not serves(self.service, self.instance):
            process = self._process()
            if process is None or process.wait(POLL_S):
                raise StackFailed(f"{self.instance.name} ended by itself; {self._last_words()}")
            if time.monotonic() > until:
                self.kill()
                what = f"does not serve after {self.service.start_s:g} s and was ended"
                raise StackFailed(f"{self.instance.name} {what}; {self._last_words()}")
            if self.given_up.is_set():
                raise StackFailed(f"{self.instance.name}: waiting was given up")
        self._settle(until)

    def ask_to_stop(self) -> None:
        """Ask the server to end in good order; `end` waits for it."""
        process = self._process()
        if process is not None:
            process.signal(self.service.stop_signal)

    def end(self) -> None:
        """Wait until the server has ended, and end it the hard way when that takes too long."""
        process = self._process()
        if process is not None and not process.wait(STOP_S):
            self.tell(f"{self.instance.name}: does not end by itself, is killed")
        self.kill()

    def kill(self) -> None:
        """End the server at once with all its processes (kill -9); returns when they are gone."""
        process = self._process()
        roots = [*processes.marked(self.instance.folder), *([process] if process else [])]
        if not processes.kill(roots, KILL_S):
            raise StackFailed(f"{self.instance.name}: a process stays after kill -9; see `ps`")
        with self.file.changing() as state:
            state.running.pop(self.instance.name, None)

    def _settle(self, until: float) -> None:
        """Settle; where it cannot be done yet (another instance is still coming), again."""
        while True:
            try:
                self.service.settle(self.instance)
            except StackFailed:
                if time.monotonic() > until or self.given_up.wait(POLL_S):
                    raise
            else:
                return

    def _process(self) -> Process | None:
        return self.file.read().alive(self.instance.name)

    def _clear(self) -> None:
        """End what a start that was cut short has left, and make room for the new one."""
        left = list(processes.marked(self.instance.folder))
        if left:
            self.tell(f"{self.instance.name}: ending what an earlier start left running")
            self.kill()
        for name, port in self.instance.ports.items():
            if not is_free(port):
                raise StackFailed(
                    f"{self.instance.name}: its port {port} ({name}) is taken by another program: "
                    "end that one, or bring the stack down and up for other ports"
                )
        self.instance.folder.mkdir(mode=0o700, exist_ok=True)
        log = self.instance.log
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name("log.old"))

    def _spawn(self) -> None:
        command = self.service.command(self.instance)
        with self.file.changing() as state:
            process = processes.spawn(command, self.instance.folder, self.instance.log)
            state.running[self.instance.name] = noted_now(process)

    def _last_words(self) -> str:
        try:
            lines = self.instance.log.read_text(errors="replace").splitlines()[-_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"{self.instance.log}:", *lines])
