"""Software is installed once, whole or not at all, whoever comes at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from deploy.central.native.cache import Cache
from deploy.central.native.service import StackFailed


def fill(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "lib/server.jar").write_bytes(b"jar")
    (folder / "tool").write_text("tool")


def refuse(folder: Path) -> None:
    pytest.fail(f"{folder} is installed though it is there")


def test_a_second_installation_finds_the_first(tmp_path: Path) -> None:
    told: list[str] = []
    cache = Cache(tmp_path / "cache", told.append)
    place = cache.place("server", "1.0", fill)
    assert place == tmp_path / "cache/server-1.0"
    assert (place / "lib/server.jar").read_bytes() == b"jar"
    assert cache.place("server", "1.0", refuse) == place
    assert told == ["server: installing 1.0 (once) …"]


def test_another_version_is_another_installation(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.place("server", "1.0", fill) != cache.place("server", "1.1", fill)


@pytest.mark.parametrize("damage", ["removed", "cut short", "no list", "list cut short"])
def test_a_damaged_installation_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    place = cache.place("server", "1.0", fill)
    jar, listed = place / "lib/server.jar", place / ".whole"
    if damage == "removed":
        jar.unlink()
    elif damage == "cut short":
        jar.write_bytes(b"j")
    elif damage == "no list":
        listed.unlink()
    else:
        listed.write_text(listed.read_text()[:-4])
    assert not cache.holds("server", "1.0")
    cache.place("server", "1.0", fill)
    assert cache.holds("server", "1.0")
    assert jar.read_bytes() == b"jar"


def test_an_installation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise StackFailed("the line is cut")

    cache = Cache(tmp_path)
    with pytest.raises(StackFailed):
        cache.place("server", "1.0", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".server-1.0.lock"]
    cache.place("server", "1.0", fill)
    assert cache.holds("server", "1.0")


def test_what_a_killed_installation_left_is_no_part_of_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".server-1.0.new/old"
    left.mkdir(parents=True)
    place = Cache(tmp_path).place("server", "1.0", fill)
    assert not (place / "old").exists()


def test_who_comes_meanwhile_waits_and_installs_nothing(tmp_path: Path) -> None:
    begun, go_on = Event(), Event()

    def fill_slowly(folder: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        fill(folder)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Cache(tmp_path).place, "server", "1.0", fill_slowly)
        assert begun.wait(30)
        second = pool.submit(Cache(tmp_path).place, "server", "1.0", refuse)
        assert not second.done()
        go_on.set()
        assert first.result(30) == second.result(30)
