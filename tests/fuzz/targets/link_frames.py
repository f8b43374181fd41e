"""Frames of the link: `FrameInvalid` or a frame that is packed to what reads back the same."""

from pathlib import Path

from shared import link
from shared.errors import FrameInvalid

SEEDS = tuple(
    path.read_bytes() for path in sorted(Path("tests/data/link").iterdir()) if path.is_file()
)


def one(data: bytes) -> None:
    try:
        frame = link.unpack(data)
    except FrameInvalid:
        return
    assert link.unpack(link.pack(frame)) == frame
