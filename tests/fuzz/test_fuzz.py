"""Every codec is fuzzed for a moment; `make fuzz` does it for as long as is asked."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz import fuzzer

SECONDS = float(os.environ.get("SPINE_FUZZ_SECONDS", "30"))

PLANTED = """
SEEDS = (b"abc", b"xyz")


def one(data: bytes) -> None:
    if data[:1] == b"a" and len(data) > 4:
        raise KeyError(data[1])
"""


def run(target: str, corpus: Path, seconds: float, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, fuzzer.__file__, target, "--corpus", str(corpus)]
    return subprocess.run(
        [*command, f"--seconds={seconds}", *more],
        capture_output=True,
        text=True,
        check=False,
        cwd=fuzzer.ROOT,
        timeout=seconds + 120,
    )


Running = Mapping[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Fuzz the chosen targets two at a time, for most of the time is waiting for them."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = [call["target"] for call in calls if "target" in call]
    corpus = tmp_path_factory.mktemp("corpus")
    with ThreadPoolExecutor(2) as pool:
        yield {target: pool.submit(run, target, corpus, SECONDS) for target in chosen}


@pytest.mark.parametrize("target", fuzzer.names())
def test_nothing_but_what_a_codec_promises_is_raised(target: str, running: Running) -> None:
    done = running[target].result()

    assert done.returncode == 0, done.stderr[-3_000:]


@pytest.mark.parametrize("more", [(), ("--at-random",)])
def test_a_planted_defect_is_found(tmp_path: Path, more: tuple[str, ...]) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(PLANTED)

    done = run(str(planted), tmp_path / "corpus", 20, *more)

    assert done.returncode != 0
    assert "KeyError" in done.stdout + done.stderr
