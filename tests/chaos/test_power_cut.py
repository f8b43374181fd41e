"""Power cuts on the real outbox: nothing that was promised is lost; see power_cut.py."""

import random
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from tests.chaos.power_cut import RECORDING_S, ROOT, cut_power, images, record
from tests.chaos.power_cut_disk import Disk, write_out
from tests.chaos.power_cut_oracle import judge
from tests.chaos.power_cut_strace import command, deeds_of_strace, deeds_of_trace

pytestmark = pytest.mark.chaos

SEED = 7


def test_a_thousand_power_cuts_lose_nothing_that_was_committed() -> None:
    tally = cut_power(cuts=1_000, seed=SEED)
    assert tally.wrong == []
    assert (tally.cuts, tally.lost_batches, tally.lost_readings) == (1_000, 0, 0)


def test_the_control_that_does_not_sync_each_commit_loses_readings() -> None:
    tally = cut_power(cuts=60, seed=SEED, synchronous="NORMAL")
    assert tally.losing >= 20
    assert tally.lost_readings > 0


async def test_a_batch_that_is_not_there_is_found_missing(tmp_path: Path) -> None:
    ops = record(tmp_path, SEED, "FULL", damage=False)
    _, files, promised = list(images(ops, 1, random.Random(SEED), after="closed"))[-1]
    batch = next(facts for facts in promised.batches.values() if facts["kind"] == "readings")
    promised.batches[batch["epoch"], 10**6] = batch
    write_out(tmp_path / "after", files)
    verdict = await judge(tmp_path / "after", promised)
    assert verdict.lost_batches == 1


@pytest.mark.parametrize("damage", [[], ["--damage"]])
def test_the_recorder_sees_what_the_kernel_is_told_in_its_order(
    tmp_path: Path, damage: list[str]
) -> None:
    log, trace, folder = tmp_path / "strace", tmp_path / "trace", tmp_path / "disk"
    strace = command(log)
    if not strace:
        pytest.skip("strace is not installed")
    folder.mkdir()
    workload = [sys.executable, "-m", "tests.chaos.power_cut_workload", str(folder), str(trace)]
    arguments = [*strace, *workload, "--seed", "3", "--rounds", "15", *damage]
    done = subprocess.run(
        arguments, cwd=ROOT, check=False, timeout=RECORDING_S, capture_output=True
    )
    if b"ptrace" in done.stderr and done.returncode:
        pytest.skip("this machine lets no process be traced")
    assert done.returncode == 0, done.stderr
    recorded = deeds_of_trace(msgpack.unpackb(trace.read_bytes(), raw=False))
    assert recorded == deeds_of_strace(log, folder)
    assert len(recorded) > 200


def test_a_disk_keeps_what_was_synced_and_any_part_of_what_was_not() -> None:
    disk = Disk()
    for op in (
        ["create", "a", 1],
        ["write", 1, 0, b"old!"],
        ["sync", 1],
        ["sync_folder"],
        ["write", 1, 0, b"new!"],
        ["create", "b", 2],
        ["write", 2, 4, b"x"],
    ):
        disk.apply(op)
    found = [disk.after_cut(random.Random(seed)) for seed in range(200)]
    assert {files["a"] for files in found} == {b"old!", b"new!"}
    # A file may have grown without the bytes that made it grow.
    assert {files.get("b") for files in found} == {None, b"", bytes(5), b"\0\0\0\0x"}


def test_a_write_may_arrive_in_sectors() -> None:
    disk = Disk()
    for op in (["create", "a", 1], ["sync_folder"], ["write", 1, 0, b"x" * 2_048]):
        disk.apply(op)
    found = {disk.after_cut(random.Random(seed))["a"] for seed in range(300)}
    assert any(0 < content.count(b"x") < 2_048 for content in found)
    assert all(content.count(b"x") % 512 == 0 for content in found)


def test_a_name_is_as_durable_as_its_folder() -> None:
    disk = Disk()
    for op in (
        ["create", "a", 1],
        ["write", 1, 0, b"1"],
        ["sync", 1],
        ["sync_folder"],
        ["rename", "a", "b"],
        ["create", "a", 2],
    ):
        disk.apply(op)
    names = {tuple(sorted(disk.after_cut(random.Random(seed)))) for seed in range(100)}
    assert names == {("a",), ("b",), ("a", "b")}
