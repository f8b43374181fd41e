"""The log in memory: bounded, filtered, followed by a cursor, and without secrets."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from edge.field.log_ring import Entry, LogRing, Wanted
from shared import logs

CANARY = "canary-5f2e-secret"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def ring(written: io.StringIO) -> Iterator[LogRing]:
    assert not written.getvalue()
    kept = LogRing()
    handlers = logging.root.handlers[:]
    logs.configure("debug", "json", kept.note)
    try:
        yield kept
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers


def filled(ring: LogRing, count: int, text: str = "x") -> None:
    for at in range(count):
        ring.note(None, "info", {"event": text, "level": "info", "at": at})


def texts(ring: LogRing, **wanted: object) -> list[str]:
    return [one.text for one in ring.newest(Wanted(**wanted)).entries]  # type: ignore[arg-type] # filters


def test_entries_are_kept_as_they_are_written(ring: LogRing, written: io.StringIO) -> None:
    logs.get("collector").warning("device does not answer", device="ahu1", error="no answer")
    (entry,) = ring.newest(Wanted()).entries
    assert (entry.level, entry.part, entry.device) == ("warning", "collector", "ahu1")
    assert entry.at_us > 1_700_000_000_000_000
    assert '"device": "ahu1"' in written.getvalue()


def test_entries_are_found_by_level_device_time_and_text(ring: LogRing) -> None:
    log = logs.get("collector")
    log.debug("asked", device="a")
    log.info("read", device="a", place="Room 12")
    log.error("lost", device="b")
    assert texts(ring) == ["read", "lost"]
    assert texts(ring, level="debug", device="a") == ["asked", "read"]
    assert texts(ring, level="error") == ["lost"]
    assert texts(ring, contains="ROOM 12") == ["read"]
    last = ring.newest(Wanted()).entries[-1]
    assert texts(ring, since_us=last.at_us + 1) == []


def test_no_secret_is_in_it_by_name_by_value_or_in_a_url(ring: LogRing) -> None:
    ring.hide([CANARY, "a", ""])
    log = logs.get("canary")
    log.info("signed in", password=CANARY, secret=CANARY)
    log.info("said", text="bad password " + CANARY, error=f"{CANARY} refused", where={CANARY})
    log.info("reading", url=f"opc.tcp://user:{CANARY[1:]}@host:4840")
    try:
        int(CANARY)
    except ValueError:
        log.exception("failed")
    found = str([(one.text, *one.fields.values()) for one in ring.newest(Wanted()).entries])
    assert CANARY[1:] not in found
    assert "signed in" in found
    assert "user:***@host" in found
    assert "invalid literal for int()" in found


def test_a_canary_that_is_not_hidden_would_be_found(ring: LogRing) -> None:
    logs.get("canary").info("said", error=f"bad {CANARY}")
    assert CANARY in repr(ring.newest(Wanted()).entries)


def test_it_is_bounded_by_number_and_by_size() -> None:
    few = LogRing(most_entries=10)
    filled(few, 25)
    assert [one.number for one in few.newest(Wanted(), 100).entries] == list(range(16, 26))
    small = LogRing(most_bytes=10_000)
    filled(small, 100, "y" * 5_000)
    kept = small.newest(Wanted(), 1_000).entries
    assert 0 < sum(one.size for one in kept) <= 10_000
    assert all(len(one.text) <= 2_001 for one in kept)


def test_who_follows_gets_each_entry_once_and_hears_what_was_gone() -> None:
    ring = LogRing(most_entries=10)
    filled(ring, 4)
    part = ring.after(0, Wanted(), 3)
    assert ([one.number for one in part.entries], part.cursor, part.gone) == ([1, 2, 3], 3, 0)
    part = ring.after(part.cursor, Wanted())
    assert [one.number for one in part.entries] == [4]
    assert ring.after(part.cursor, Wanted()).entries == ()
    filled(ring, 15)
    part = ring.after(part.cursor, Wanted())
    assert (part.entries[0].number, part.cursor, part.gone) == (10, 19, 5)


def test_a_cursor_moves_past_what_was_not_wanted() -> None:
    ring = LogRing()
    filled(ring, 5)
    assert ring.after(0, Wanted(level="error")).cursor == 5


def test_an_entry_that_speaks_of_no_device_says_so() -> None:
    assert Entry(1, 0, "info", "p", "text").device == ""
