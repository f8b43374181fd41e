"""What a machine lacks is told with how to get it, and only what it needs for the next start."""

import platform
import shutil
from pathlib import Path

import pytest

from deploy.central.native import java, launcher, mosquitto, versions
from deploy.central.native.cache import Cache
from deploy.central.native.installing import run
from deploy.central.native.launcher import Launcher
from deploy.central.native.service import StackFailed
from deploy.central.native.services import find


def without(monkeypatch: pytest.MonkeyPatch, *lacking: str) -> None:
    real = shutil.which

    def which(name: str, *_: object, path: str | None = None) -> str | None:
        return None if name in lacking else real(name, path=path)

    monkeypatch.setattr(shutil, "which", which)


@pytest.mark.parametrize("name", ["kafka", "registry"])
def test_without_maven_what_maven_fetches_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without(monkeypatch, "mvn")
    lacks = find(name).missing(Cache(tmp_path))
    assert lacks == ["Maven (apt-get install maven)"]


def test_what_is_installed_needs_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "mvn")
    cache = Cache(tmp_path)
    cache.place("kafka", versions.KAFKA, lambda folder: (folder / "jar").touch())
    assert find("kafka").missing(cache) == []
    assert find("registry").missing(cache) != []


def test_without_a_runtime_for_this_machine_java_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    without(monkeypatch, "java")
    (lack,) = (one for one in find("kafka").missing(Cache(tmp_path)) if "Java" in one)
    assert lack == "Java 21 (none is fetched for this machine: put `java` on PATH)"


@pytest.mark.parametrize(("version", "is_enough"), [("21.0.8", True), ("17.0.9", False)])
def test_a_java_of_the_machine_serves_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_enough: bool
) -> None:
    program = tmp_path / "bin/java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" LTS' >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    lacks = java.missing(Cache(tmp_path), "kafka", versions.KAFKA)
    assert any("Java 21" in lack for lack in lacks) is not is_enough
    if is_enough:
        assert java.program(Cache(tmp_path)) == str(program)


def test_without_mosquitto_and_apt_mosquitto_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "mosquitto", "apt-get")
    (lack,) = mosquitto.Mosquitto().missing(Cache(tmp_path))
    assert lack.startswith("mosquitto (")


def test_missing_asks_by_name() -> None:
    with pytest.raises(StackFailed, match="no service 'oracle': choose from kafka, registry"):
        launcher.missing("oracle")


def test_a_service_that_cannot_run_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without(monkeypatch, "mvn", "mosquitto", "apt-get")
    told: list[str] = []
    stack = Launcher(tmp_path / "stack", tell=told.append)
    with pytest.raises(StackFailed, match="nothing of the stack can run on this machine"):
        stack.up()
    assert "kafka: left out, for this machine lacks Maven (apt-get install maven)" in told
    assert stack.names() == []
    stack.reset()


def test_a_service_that_is_asked_for_by_name_must_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without(monkeypatch, "mvn")
    with pytest.raises(StackFailed, match="kafka: this machine lacks Maven"):
        Launcher(tmp_path / "stack").up(["kafka"])


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(StackFailed, match=r"sh -c .* failed \(3\):\nno such artifact"):
        run(["sh", "-c", "echo no such artifact >&2; exit 3"])


def test_a_tool_that_hangs_is_ended() -> None:
    with pytest.raises(StackFailed, match="sleep 3600 takes longer than"):
        run(["sleep", "3600"], timeout_s=0.1)


def test_a_tool_that_is_not_there_is_named() -> None:
    with pytest.raises(StackFailed, match="no-such-tool is not on this machine"):
        run(["no-such-tool"])
