"""A stack of real servers in a folder: up, down, and each server killed and started singly."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Final

from deploy.central.native import processes, watch
from deploy.central.native.cache import Cache
from deploy.central.native.ports import give_ports, take_back_ports
from deploy.central.native.runner import KILL_S, Runner
from deploy.central.native.service import Instance, Profile, Service, Stack, StackFailed
from deploy.central.native.services import SERVICES, find
from deploy.central.native.state import StateFile
from deploy.central.native.status import Row, rows
from shared.errors import SpineError
from shared.pki import write_private

_WHOLE: Final = "stack"


def missing(name: str) -> list[str]:
    """List what this machine lacks for a service, each with how to get it; empty: it can run."""
    return find(name).missing(Cache.of_user())


class Launcher:
    """The stack that lives in one folder; any number of launchers may speak of the same one.

    The servers outlive whoever starts them. With `tied` they are killed when the process that made
    the launcher ends, however it ends: for tests. `tell` gets a line for people at each step.
    All methods block and raise `StackFailed`.
    """

    def __init__(
        self,
        folder: Path,
        profile: Profile = "dev",
        *,
        tied: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder.resolve()
        self._profile = profile
        self._tied = tied
        self._tell = tell
        self._file = StateFile(self._folder)
        self._cache = Cache.of_user(tell)
        self._given_up = Event()

    def up(self, only: Sequence[str] | None = None) -> dict[str, str]:
        """Start what does not run yet, wait until all of it serves, and give the env file's lines.

        Without `only` all services are meant, and one that this machine lacks something for is
        left out; one that `only` names must run.
        """
        chosen = self._choose(only)
        with self._file.locked(_WHOLE):
            self._claim(renew_ports=True)
            self._start_all(chosen)
            return self._write_env()

    def down(self) -> None:
        """End all servers in good order; their data stays."""
        with self._file.locked(_WHOLE):
            for service in reversed(SERVICES):
                self._end(service)
            self._clear()

    def reset(self) -> None:
        """End all servers at once and throw the folder away with all their data."""
        if not self._file.exists() and self._folder.exists() and any(self._folder.iterdir()):
            raise StackFailed(f"{self._folder} holds no stack: it stays as it is")
        self._clear()
        shutil.rmtree(self._folder)

    def status(self) -> list[Row]:
        """Tell of every instance of this stack's profile."""
        return list(rows(self._stack(), self._file.read(), SERVICES))

    def names(self) -> list[str]:
        """Name the instances whose process runs."""
        state = self._file.read()
        every = [name for one in SERVICES for name in one.instances(self._profile)]
        return [name for name in every if state.alive(name)]

    def pid(self, name: str) -> int:
        """Give the process that was started for an instance."""
        process = self._file.read().alive(name)
        if process is None:
            raise StackFailed(f"{name} does not run in {self._folder}")
        return process.pid

    def lost(self) -> list[str]:
        """Name the instances that have ended by themselves since they were started."""
        state = self._file.read()
        every = [name for one in SERVICES for name in one.instances(self._profile)]
        return [name for name in every if name in state.running and not state.alive(name)]

    def revive(self, name: str) -> None:
        """Start an instance that ended by itself, without waiting until it serves.

        One that somebody has taken down meanwhile stays down.
        """
        with self._file.locked(_WHOLE):
            if name in self.lost():
                self._runner(name).begin()

    def log(self, name: str) -> Path:
        """Tell where an instance writes."""
        return self._runner(name).instance.log

    def kill(self, name: str) -> None:
        """End one instance with all its processes at once (kill -9); returns when they are gone."""
        self._runner(name).kill()

    def start(self, name: str) -> None:
        """Start an instance again with the same ports and data; returns when it serves."""
        self._claim(renew_ports=False)
        runner = self._runner(name)
        runner.begin()
        runner.finish()

    def wipe(self, name: str) -> None:
        """Throw the data of an instance away that does not run; its next start makes it anew."""
        instance = self._runner(name).instance
        if self._file.read().alive(name) is not None:
            raise StackFailed(f"{name} runs: its data can be thrown away when it is down")
        if instance.data.exists():
            shutil.rmtree(instance.data)

    def _choose(self, only: Sequence[str] | None) -> list[Service]:
        chosen = [find(name) for name in dict.fromkeys(only)] if only else SERVICES
        able: list[Service] = []
        for service in chosen:
            lacks = service.missing(self._cache)
            if not lacks:
                able.append(service)
            elif only:
                raise StackFailed(f"{service.name}: this machine lacks {'; '.join(lacks)}")
            else:
                self._tell(f"{service.name}: left out, for this machine lacks {'; '.join(lacks)}")
        if not able:
            raise StackFailed("nothing of the stack can run on this machine")
        return able

    def _claim(self, *, renew_ports: bool) -> None:
        """Make the folder this profile's, and see that every instance has ports."""
        with self._file.changing() as state:
            if state.profile not in {None, self._profile}:
                raise StackFailed(
                    f"{self._folder} holds a {state.profile} stack: choose another folder for "
                    f"{self._profile}, or reset that one"
                )
            state.profile = self._profile
            if renew_ports:
                take_back_ports(state, SERVICES, self._profile)
            give_ports(state, SERVICES, self._profile)
        if self._tied:
            watch.start(self._file)

    def _start_all(self, chosen: Sequence[Service]) -> None:
        """Start services beside each other; those that fail are told of together at the end."""
        with ThreadPoolExecutor(max_workers=len(SERVICES)) as pool:
            tasks = [pool.submit(self._start_service, service) for service in chosen]
            try:
                errors = [task.exception() for task in as_completed(tasks)]
            except BaseException:
                self._given_up.set()
                raise
        failures = [error for error in errors if error is not None]
        for error in failures:
            if not isinstance(error, SpineError | OSError):
                raise error
        if failures:
            raise StackFailed("\n".join(map(str, failures)))

    def _start_service(self, service: Service) -> None:
        service.install(self._cache)
        runners = self._runners(service)
        for runner in runners:
            runner.begin()
        for runner in runners:
            runner.finish()
            self._tell(f"{runner.instance.name}: ready")

    def _end(self, service: Service) -> None:
        running = self.names()
        runners = [one for one in self._runners(service) if one.instance.name in running]
        for runner in runners:
            runner.ask_to_stop()
        for runner in runners:
            runner.end()
            self._tell(f"{runner.instance.name}: down")

    def _clear(self) -> None:
        """See that no process of this folder is left, noted or not."""
        if not processes.kill(list(processes.marked(self._folder)), KILL_S):
            raise StackFailed(f"a process of {self._folder} stays after kill -9; see `ps`")
        watch.stop(self._file)
        (self._folder / "env").unlink(missing_ok=True)

    def _write_env(self) -> dict[str, str]:
        stack, running = self._stack(), set(self.names())
        env: dict[str, str] = {}
        for service in SERVICES:
            if running.intersection(service.instances(self._profile)):
                env.update(service.env(stack))
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items())
        write_private(self._folder / "env", text.encode())
        return env

    def _stack(self) -> Stack:
        return Stack(self._folder, self._profile, self._cache, self._file.read().ports)

    def _runners(self, service: Service) -> list[Runner]:
        stack = self._stack()
        return [
            Runner(service, Instance(name, stack), self._file, self._tell, self._given_up)
            for name in service.instances(self._profile)
        ]

    def _runner(self, name: str) -> Runner:
        for service in SERVICES:
            for runner in self._runners(service):
                if runner.instance.name == name:
                    return runner
        raise StackFailed(f"a {self._profile} stack has no instance {name!r}")
