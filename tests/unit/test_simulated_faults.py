"""The timetable of faults: read with care, the same for a seed, played and logged."""

import asyncio
import json
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from protocols.simulated import faults
from protocols.simulated.fault_board import FaultBoard
from protocols.simulated.faults import Chance, Fault, Timetable, Window
from protocols.simulated.truth import Lines
from shared.clock import SystemClock
from shared.errors import SettingsError

TARGETS = faults.possible({"meter1": "modbus", "ahu1": "opcua", "room1": "mqtt"})


def first(streams: dict[str, list[Iterator[Window]]], count: int) -> dict[str, list[Window]]:
    return {name: list(islice(stream[0], count)) for name, stream in streams.items()}


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    lines = Lines(tmp_path / "faults.jsonl")
    yield lines
    lines.close()


def logged(tmp_path: Path) -> list[dict[str, object]]:
    text = (tmp_path / "faults.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_may_be_yaml_or_json(tmp_path: Path) -> None:
    entry = {"device": "meter1", "fault": "silent", "at_s": 1, "for_s": 2}
    (tmp_path / "a.json").write_text(json.dumps({"faults": [entry]}))
    (tmp_path / "a.yaml").write_text(
        "faults:\n  - {device: meter1, fault: silent, at_s: 1, for_s: 2}\n"
    )
    read = [faults.load(str(tmp_path / name), TARGETS) for name in ("a.json", "a.yaml")]
    assert read[0] == read[1]
    assert read[0].faults[0].fault is Fault.SILENT


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("faults:\n  - {device: meter1, fault: sleepy, at_s: -1}\nmore: 1\n")
    with pytest.raises(SettingsError) as caught:
        faults.load(str(file), TARGETS)
    assert len(caught.value.problems) == 4
    assert all(
        any(place in problem for problem in caught.value.problems)
        for place in ("faults.0.fault", "faults.0.at_s", "faults.0.for_s", "more")
    )


def test_a_fault_that_a_device_cannot_have_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(
        "faults:\n"
        "  - {device: room1, fault: exception, at_s: 1, for_s: 1}\n"
        "  - {device: room99, fault: nan, at_s: 1, for_s: 1}\n"
    )
    with pytest.raises(SettingsError) as caught:
        faults.load(str(file), TARGETS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["room1", "room99"]


@pytest.mark.parametrize("text", ["faults: [", None])
def test_a_file_that_cannot_be_read_is_a_settings_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "f.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=r"f\.yaml"):
        faults.load(str(file), TARGETS)


def test_the_default_timetable_is_valid_for_the_real_building() -> None:
    protocols = {f"meter{number}": "modbus" for number in range(1, 5)} | {"inverter1": "modbus"}
    protocols |= dict.fromkeys(("ahu1", "vav1", "vav2", "vav3"), "opcua")
    protocols |= {f"room{number}": "mqtt" for number in range(1, 13)}
    assert len(faults.load("default", faults.possible(protocols)).faults) >= 6


def test_chance_is_decided_by_the_seed() -> None:
    table = Timetable(random=Chance())
    one, same, other = (first(table.windows(TARGETS, seed), 20) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_chance_gives_only_possible_faults_that_do_not_overlap() -> None:
    streams = first(faults.load("random", TARGETS).windows(TARGETS, 5), 200)
    for target, windows in streams.items():
        assert {window.fault for window in windows} <= TARGETS[target]
        assert all(a.end_s <= b.start_s for a, b in pairwise(windows))
        assert all(1 <= window.end_s - window.start_s <= 12 for window in windows)


def test_a_repeated_fault_comes_again_and_again() -> None:
    entry = faults.Entry(device="meter1", fault=Fault.NAN, at_s=5, for_s=1, every_s=10)
    stream = Timetable(faults=(entry,)).windows(TARGETS, 0)["meter1"][0]
    assert [window.start_s for window in islice(stream, 3)] == [5, 15, 25]


async def test_the_board_begins_and_ends_a_fault_and_logs_it(tmp_path: Path, lines: Lines) -> None:
    board = FaultBoard(lines, SystemClock(), {})
    heard: list[bool] = []
    ended = asyncio.Event()

    async def listener(begins: bool) -> None:
        heard.append(begins)
        if not begins:
            ended.set()

    board.listen("room1", listener)
    window = Window(start_s=0.05, end_s=0.1, fault=Fault.REFUSE)
    running = asyncio.create_task(board.run({"room1": [iter([window])]}))
    await asyncio.wait_for(ended.wait(), 5)
    assert board.of("room1") is None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (line,) = logged(tmp_path)
    assert heard == [True, False]
    assert (line["device"], line["fault"]) == ("room1", "refuse")
    assert isinstance(line["from_us"], int)
    assert isinstance(line["to_us"], int)
    assert line["to_us"] - line["from_us"] >= 40_000


async def test_a_fault_of_the_server_is_logged_for_each_of_its_devices(
    tmp_path: Path, lines: Lines
) -> None:
    board = FaultBoard(lines, SystemClock(), {"opcua": ("ahu1", "vav1")})
    window = Window(start_s=0, end_s=60, fault=Fault.REFUSE)
    begun = asyncio.Event()

    async def listener(begins: bool) -> None:
        begun.set()

    board.listen("opcua", listener)
    running = asyncio.create_task(board.run({"opcua": [iter([window])]}))
    await asyncio.wait_for(begun.wait(), 5)
    assert board.of("vav1") is Fault.REFUSE
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [line["device"] for line in logged(tmp_path)] == ["ahu1", "vav1"]


async def test_a_fault_that_meets_another_of_the_device_is_left_out(
    tmp_path: Path, lines: Lines
) -> None:
    board = FaultBoard(lines, SystemClock(), {})
    windows = {
        "meter1": [
            iter([Window(start_s=0, end_s=60, fault=Fault.SILENT)]),
            iter([Window(start_s=0.01, end_s=60, fault=Fault.NAN)]),
        ],
        "room1": [iter([Window(start_s=0.02, end_s=0.03, fault=Fault.REFUSE)])],
    }
    later = asyncio.Event()

    async def listener(begins: bool) -> None:
        if not begins:
            later.set()

    board.listen("room1", listener)
    running = asyncio.create_task(board.run(windows))
    await asyncio.wait_for(later.wait(), 5)
    assert board.of("meter1") is Fault.SILENT
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [(line["device"], line["fault"]) for line in logged(tmp_path)] == [
        ("room1", "refuse"),
        ("meter1", "silent"),
    ]
