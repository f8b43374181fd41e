"""A gateway that is killed while its configuration changes starts with one of the two, whole."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config_store import FILE_NAME, ConfigStore, State
from edge.document import hash_of
from edge.recovery import read_outbox

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 6
TOLD = "IN FORCE"

CHANGING = """
import asyncio, sys
from pathlib import Path
import pytest
from protocols import registry
from tests.integration.twin_kit import Works, device, document, site

made, find = Works(), registry.find
registry.find = lambda name: made.driver_type() if name == "fake" else find(name)
DOCUMENTS = [document(device("a"), device("b", "b/p", "b/q")), document(device("c"), device("a"))]

async def main():
    async with site(Path(sys.argv[1]), DOCUMENTS[0]) as gateway:
        nth = 0
        while True:
            nth += 1
            document = {**DOCUMENTS[nth % 2], "policies": {"low": {"report": {"deadband": nth}}}}
            await gateway.twin.apply(document, source="api", reason=str(nth))
            head = gateway.twin.current.head
            print("IN FORCE", head.number, head.hash.hex(), flush=True)

asyncio.run(main())
"""


def killed_after(folder: Path, changes: int, delay: float) -> tuple[int, str]:
    """Change the configuration again and again, and kill; gives what was in force for sure."""
    command = [sys.executable, "-c", CHANGING, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen: list[str] = []
        while sum(line.startswith(TOLD) for line in seen) < changes:
            seen.append(process.stdout.readline())
            assert seen[-1]
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        seen += process.stdout.read().splitlines()
    whole = [line.split() for line in seen if line.startswith(TOLD)]
    _, _, number, hash_ = [words for words in whole if len(words) == 4 and len(words[3]) == 64][-1]
    return int(number), hash_


@pytest.mark.parametrize("seed", [1])
def test_after_a_kill_what_was_in_force_is_or_what_came_next(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(ROUNDS):
        number, hash_ = killed_after(tmp_path, draw.randint(1, 4), draw.random() * 0.1)
        with ConfigStore(tmp_path / FILE_NAME) as store:
            current = store.current()
            assert current is not None
            states = [head.state for head in store.heads()]
        assert states.count(State.CURRENT) == 1
        assert current.hash == hash_of(current.document)
        assert current.number in {number, number + 1}
        if current.number == number:
            assert current.hash.hex() == hash_
        ledger, _, _ = read_outbox(tmp_path / "outbox.db")
        assert ledger.imbalance() == 0
        assert ledger.produced == ledger.pending
