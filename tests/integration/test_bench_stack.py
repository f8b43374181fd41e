"""The bench's stages on the real stack measure what they say, and say what a machine lacks."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import drain, ingress, life, writer
from bench.__main__ import main
from deploy.central.native import launcher
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]
pytestmark = pytest.mark.integration


@pytest.fixture
def whole_stack(
    kafka_stack: RunningStack, registry_stack: RunningStack, timescale_stack: RunningStack
) -> Iterator[None]:
    """Have the stages use the session's servers."""
    assert kafka_stack.launcher is registry_stack.launcher is timescale_stack.launcher
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_STACK", str(timescale_stack.launcher._folder))
        yield


@pytest.mark.usefixtures("whole_stack")
async def test_ingress_is_measured_against_both_sinks() -> None:
    result = await asyncio.to_thread(ingress.run, 1, quick=True)

    assert result.ratio is not None
    assert result.baseline_rate is not None
    assert 0 < result.ratio == result.rate / result.baseline_rate
    assert set(result.ours) >= {
        "cpu_ratio",
        "ratio_to_posts",
        "ratio_to_logging_sink",
        "batches_of_50",
    }


@pytest.mark.usefixtures("whole_stack")
async def test_the_writer_is_measured_against_copy() -> None:
    result = await asyncio.to_thread(writer.run, 1, quick=True)  # it counts the rows of both itself

    assert result.baseline_rate is not None
    assert min(result.rate, result.baseline_rate) > 0
    assert result.bytes_per_reading is not None
    assert result.bytes_per_reading > 52  # a row and its index entry cannot be smaller


@pytest.mark.usefixtures("whole_stack")
async def test_life_is_measured_from_gateways_to_settled() -> None:
    result = await asyncio.to_thread(life.run, 1, quick=True)  # it counts what was delivered itself

    cpu = result.ours["cpu_us_per_1000_by_process"]
    assert isinstance(cpu, dict)
    assert set(cpu) == {*life.MODULES, "kafka", "registry", "timescale", "gateways"}
    assert result.rate > 0


def test_a_machine_that_cannot_run_the_servers_is_told_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "missing", lambda name: [f"apt, for {name}"])
    monkeypatch.delenv("BENCH_STACK", raising=False)

    assert main(["writer", "--quick", "--out", str(tmp_path / "out.json")]) == 3

    assert "writer was not run" in (said := capsys.readouterr().err)
    assert "apt, for timescale" in said
    assert json.loads((tmp_path / "out.json").read_text())["stages"] == {}


def test_a_stack_that_does_not_run_is_named(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench", "life", "--quick", "--out", str(tmp_path / "out.json")],
        env={**os.environ, "BENCH_STACK": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 3
    assert f"no stack runs in {tmp_path / 'none'}" in run.stderr


@pytest.mark.usefixtures("whole_stack")
async def test_an_outage_drains_while_the_gateway_goes_on() -> None:
    result = await asyncio.to_thread(drain.run, 1, quick=True)  # it balances its own ledger

    assert result.ratio is not None
    assert result.ratio > 1
    assert result.ours["live_latency_ratio"]
