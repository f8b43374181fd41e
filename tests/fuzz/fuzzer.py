"""Feeds one codec what no peer should ever send, and fails if it raises what it does not promise.

    python tests/fuzz/fuzzer.py link_frames --seconds 30 --seed 1 --corpus FOLDER

A target is a file in `targets/` with `SEEDS`, inputs that make sense, and `one(data)`, which hands
bytes to the codec and takes only the errors that the codec promises. With atheris the search is
led by the code it reaches; where atheris is not there (it has wheels for few machines), inputs are
damaged seeds at random.
"""

import argparse
import importlib.util
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TARGETS: Final = Path(__file__).parent / "targets"
MAX_BYTES: Final = 4_096


def names() -> list[str]:
    """List the targets."""
    return sorted(path.stem for path in TARGETS.glob("*.py"))


def load(path: Path) -> ModuleType:
    """Import a target."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def damaged(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Take a seed and flip, blank, push in, repeat, join or cut off some of it."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            data[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            data[at:at] = data[: rng.randint(0, 64)]
        elif kind == 4:
            data += rng.choice(seeds)[at:]
        else:
            del data[at:]
    return bytes(data[:MAX_BYTES])


def at_random(
    one: Callable[[bytes], None], seeds: Sequence[bytes], seconds: float, seed: int
) -> int:
    """Try damaged seeds until the time is over; tells how many."""
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < until:
        data = damaged(rng, seeds)
        try:
            one(data)
        except BaseException:
            sys.stderr.write(f"input {data.hex()}\n")
            raise
        tried += 1
    return tried


def led(target: Path, seconds: float, seed: int, corpus: Path) -> None:
    """Let atheris search; it ends the process, with an error if it found one."""
    import atheris  # noqa: PLC0415 - not on every machine

    with atheris.instrument_imports(include=["shared", "protocols", "edge", "central"]):
        module = load(target)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(module.SEEDS):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", "-timeout=20"]
    options += [f"-max_len={MAX_BYTES}", "-rss_limit_mb=2048", "-print_final_stats=1"]
    options += [f"-artifact_prefix={corpus}-", "-verbosity=0"]
    atheris.instrument_func(module.one)
    atheris.Setup([str(target), str(corpus), *options], module.one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the target that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", help=f"one of {', '.join(names())}, or a file")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--at-random", action="store_true", help="without atheris")
    given = parser.parse_args()
    path = Path(given.target) if given.target.endswith(".py") else TARGETS / f"{given.target}.py"
    if not given.at_random and importlib.util.find_spec("atheris") is not None:
        led(path, given.seconds, given.seed, given.corpus / path.stem)
        return
    module = load(path)
    tried = at_random(module.one, module.SEEDS, given.seconds, given.seed)
    sys.stdout.write(f"{path.stem}: {tried} inputs at random, seed {given.seed}: nothing found\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
