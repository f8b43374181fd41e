"""Software of others that tests run against: installed once for this user, else they skip.

What is installed lies in the cache that the stack uses too (`deploy.central.native.cache`).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import pytest

from deploy.central.native import versions
from deploy.central.native.cache import Cache

START_DEADLINE_S: Final = 60.0
INSTALL_DEADLINE_S: Final = 300.0


def needs(*tools: str) -> None:
    """Skip the test where a program is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")


def npm(package: str, version: str) -> Path:
    """Give the `node_modules` that hold a package of npm."""
    needs("node", "npm")

    def fill(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        quiet = ("--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund")
        run("npm", "install", *quiet, f"{package}@{version}", cwd=folder)

    name = "npm-" + package.strip("@").replace("/", "-")
    return Cache.of_user().place(name, version, fill) / "node_modules"


def pip(package: str, version: str) -> Path:
    """Give a folder of site packages that hold one of PyPI, for a process of its own."""

    def fill(folder: Path) -> None:
        run(sys.executable, "-m", "pip", "install", "-q", f"{package}=={version}", "-t", folder)

    return Cache.of_user().place(f"pip-{package}", version, fill)


def maven(group: str, artifact: str, version: str) -> Path:
    """Give the jar of an artifact of Maven that brings all it needs."""
    needs("java", "mvn")

    def fill(folder: Path) -> None:
        plugin = "org.apache.maven.plugins:maven-dependency-plugin"
        goal = f"{plugin}:{versions.MAVEN_DEPENDENCY_PLUGIN}:copy"
        wanted = f"-Dartifact={group}:{artifact}:{version}"
        run("mvn", "-q", "-B", "-C", goal, wanted, f"-DoutputDirectory={folder}")

    folder = Cache.of_user().place(f"maven-{artifact}", version, fill)
    return folder / f"{artifact}-{version}.jar"


def debian(name: str, version: str, packages: Sequence[str]) -> Path:
    """Give a folder into which Debian packages are unpacked; needs no root."""
    needs("apt-get", "dpkg-deb")

    def fill(folder: Path) -> None:
        run("apt-get", "download", *packages, cwd=folder)
        for package in sorted(folder.glob("*.deb")):
            run("dpkg-deb", "-x", package, folder)
            package.unlink()

    return Cache.of_user().place(f"debian-{name}", version, fill)


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a step of an installation; one that fails skips the test with what it said."""
    line = [str(part) for part in command]
    done = subprocess.run(
        line, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-400:]
        pytest.skip(f"cannot be installed here: {' '.join(line)}: {said}")


class Foreign:
    """A process that prints READY when it serves, and DONE for every line it was told.

    `tell` writes one JSON document a line to its standard input and waits until it is heeded.
    """

    def __init__(self, command: Sequence[object], log: Path, **environment: str) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        self._environment: Mapping[str, str] = dict(os.environ) | environment
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start; serves when this returns."""
        if self.is_running:
            return
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._told = 0
        await self.until_logged("READY", 1)

    async def stop(self) -> None:
        """End it at once: such servers keep nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await anyio.to_thread.run_sync(process.wait)

    async def tell(self, **what: object) -> None:
        """Tell it something and wait until it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        self._told += 1
        await self.until_logged("DONE", self._told)

    async def until_logged(self, word: str, times: int) -> None:
        with anyio.move_on_after(START_DEADLINE_S):
            while self.log.count(word) < times:
                if not self.is_running:
                    break
                await anyio.sleep(0.005)
            else:
                return
        pytest.fail(f"{self._command[0]} does not say {word} {times} times:\n{self.log[-2_000:]}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
