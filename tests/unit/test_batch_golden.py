"""Golden bodies and frames stay what they were: this version reads them and writes the same."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import zstandard

from shared import link
from shared.batch import decode, decode_events, encode, encode_events
from shared.batch.layout import MAX_DECOMPRESSED_BYTES, MAX_READINGS, unseal

DATA = Path(__file__).parents[1] / "data"
MADE_WITH_ZSTD = (1, 5, 7)
bodies = pytest.mark.parametrize(
    "path", sorted((DATA / "batch").glob("*.batch")), ids=lambda path: path.stem
)
frames = pytest.mark.parametrize(
    "name", sorted(path.stem for path in (DATA / "link").glob("*.msgpack"))
)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", DATA / "make_golden.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@bodies
def test_a_golden_body_is_read_as_it_always_was(path: Path, maker: ModuleType) -> None:
    assert maker.rows_of(decode(path.read_bytes())) == json.loads(
        path.with_suffix(".json").read_text()
    )


@bodies
def test_a_golden_body_is_written_again_to_the_byte(path: Path) -> None:
    body = path.read_bytes()
    again = encode(decode(body))
    limits = (MAX_DECOMPRESSED_BYTES, MAX_READINGS)
    assert unseal(again, *limits) == unseal(body, *limits)
    if zstandard.ZSTD_VERSION == MADE_WITH_ZSTD:  # another zstd may pack the same payload otherwise
        assert again == body


def test_golden_events_are_read_and_written_again() -> None:
    body = (DATA / "batch" / "gap.events").read_bytes()
    events = decode_events(body)
    written = json.loads((DATA / "batch" / "gap.json").read_text())
    written[0]["id"] = bytes.fromhex(written[0]["id"]["hex"])
    assert events == written
    assert decode_events(encode_events(events)) == events
    if zstandard.ZSTD_VERSION == MADE_WITH_ZSTD:
        assert encode_events(events) == body


@frames
def test_a_golden_frame_is_read_as_it_always_was(name: str, maker: ModuleType) -> None:
    frame = link.unpack((DATA / "link" / f"{name}.msgpack").read_bytes())
    kept = json.loads((DATA / "link" / f"{name}.json").read_text())
    assert type(frame) is link.TYPES[kept["type"]]
    assert kept == {"type": kept["type"], **maker.readable(frame.model_dump(mode="python"))}


def test_every_type_of_frame_has_a_golden_file() -> None:
    assert set(link.TYPES) <= {path.stem for path in (DATA / "link").glob("*.msgpack")}


@frames
def test_a_golden_frame_is_written_again_to_the_byte(name: str) -> None:
    data = (DATA / "link" / f"{name}.msgpack").read_bytes()
    assert link.pack(link.unpack(data)) == data


def test_golden_files_are_those_the_script_makes(maker: ModuleType) -> None:
    made = {path for path, _ in maker.files()}
    kept = {path for folder in ("batch", "link") for path in (DATA / folder).iterdir()}
    assert made == kept
