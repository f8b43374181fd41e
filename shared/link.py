"""The frames of the link between gateway and central, and their msgpack form.

Specified in docs/reference/link.md, which has the same tables; golden files lie in
tests/data/link/. A frame is a msgpack map with a `type`. Reading is strict about what a frame must
carry and lenient about keys it does not know, so that either side can be newer.
"""

from typing import Annotated, Any, Final

import msgpack
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from shared.errors import FrameInvalid
from shared.model import Kind

VERSION: Final = 1
SUBPROTOCOL: Final = "spine.link.1"
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_POINTS: Final = 100_000
WINDOW_BATCHES: Final = 64
"""A gateway sends no more batches ahead of their acceptance, whatever the window's bytes."""

EPOCH_LIMIT: Final = 2**63
"""Epochs are random in [1, 2**63): they fit a signed 64-bit column."""

Range = tuple[int, int]
"""A closed range of seqs: first, last."""


def _ascending(one: Range) -> Range:
    if not 0 <= one[0] <= one[1]:
        raise ValueError("a range is [first, last] with 0 <= first <= last")
    return one


Ranges = tuple[Annotated[Range, AfterValidator(_ascending)], ...]


class Frame(BaseModel):
    """What every frame is: frozen, of exactly the types of the page, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ClockState(Frame):
    """What the sender knows of its clock."""

    utc_us: int
    synchronised: bool
    boot_id: str = Field(max_length=64)


class Pending(Frame):
    """The seqs of one epoch that the gateway still keeps."""

    epoch: int = Field(gt=0, lt=EPOCH_LIMIT)
    seqs: Ranges = Field(max_length=10_000)


class Settled(Frame):
    """The settled seqs of one epoch, and what became of all its settled readings so far.

    `delivered`, `collapsed`, `quarantined` are totals over the epoch, consistent with the settled
    set that the session has been told up to and including this frame.
    """

    epoch: int = Field(gt=0, lt=EPOCH_LIMIT)
    seqs: Ranges
    delivered: int = Field(ge=0)
    collapsed: int = Field(ge=0)
    quarantined: int = Field(ge=0)


class Problem(Frame):
    """Why bytes were refused: a stable code and a sentence."""

    code: str = Field(max_length=64)
    detail: str = Field(max_length=2_000)


class Hello(Frame):
    """Gateway's first frame."""

    version: int
    session: bytes = Field(min_length=16, max_length=16)
    pending: tuple[Pending, ...] = Field(max_length=10_000)
    clock: ClockState
    software: str = Field(max_length=200)
    config_revision: int = Field(ge=0)


class Welcome(Frame):
    """Central's first frame: the settled sets of the epochs in `hello`, and limits."""

    version: int
    settled: tuple[Settled, ...]
    utc_us: int
    config_revision: int = Field(ge=0)
    window_bytes: int = Field(gt=0)
    max_body_bytes: int = Field(gt=0)


class NeedPointSet(Frame):
    """Central asks for a point set it does not know; batches that speak of it wait."""

    hash: bytes = Field(min_length=32, max_length=32)


class PointSetFrame(Frame):
    """The ordered points of a set: `[key, unit, type, class]` each."""

    hash: bytes = Field(min_length=32, max_length=32)
    points: tuple[tuple[str, str, str, str], ...] = Field(max_length=MAX_POINTS)


class Batch(Frame):
    """One sealed outbox segment. `count` is the number of readings (events for kind events)."""

    epoch: int = Field(gt=0, lt=EPOCH_LIMIT)
    seq: int = Field(ge=0, lt=2**62)
    kind: Annotated[Kind, Strict(strict=False)]
    count: int = Field(ge=0, lt=2**31)
    point_set: bytes = Field(min_length=32, max_length=32)
    body: bytes


class Accepted(Frame):
    """The seqs of one epoch that are in the log now."""

    epoch: int = Field(gt=0, lt=EPOCH_LIMIT)
    seqs: Ranges


class Receipt(Frame):
    """What central has: accepted is in the log (keep it), settled in the database (delete it)."""

    accepted: tuple[Accepted, ...] = ()
    settled: tuple[Settled, ...] = ()


class RetryAfter(Frame):
    """Central cannot take this batch now; the gateway keeps it, slows down and sends it again."""

    epoch: int
    seq: int
    seconds: float = Field(ge=0, le=3_600)
    reason: str = Field(max_length=64)


class RefusedFrame(Frame):
    """These bytes break the format; central quarantines them, and a settled receipt follows."""

    epoch: int
    seq: int
    problem: Problem


class Desired(Frame):
    """The configuration document central wants, by revision and content hash.

    `base` is the hash of the gateway's document that it was made for, as `reported` told it; empty
    if central knows of none but its own revisions.
    """

    revision: int = Field(ge=1)
    hash: bytes = Field(min_length=32, max_length=32)
    document: dict[str, Any]
    base: bytes = Field(default=b"", max_length=32)


class Reported(Frame):
    """What became of the configuration, per section."""

    revision: int = Field(ge=0)
    sections: dict[str, Any]


class Command(Frame):
    """A write that central asks for."""

    id: bytes = Field(min_length=16, max_length=16)
    document: dict[str, Any]


class Outcome(Frame):
    """The final state of a command."""

    id: bytes = Field(min_length=16, max_length=16)
    state: str = Field(max_length=32)
    detail: str = Field(default="", max_length=2_000)


class Unsupported(Frame):
    """The answer to a frame type that the peer does not serve."""

    frame: str = Field(max_length=64)


TYPES: Final[dict[str, type[Frame]]] = {
    "hello": Hello,
    "welcome": Welcome,
    "need_point_set": NeedPointSet,
    "point_set": PointSetFrame,
    "batch": Batch,
    "receipt": Receipt,
    "retry_after": RetryAfter,
    "refused": RefusedFrame,
    "desired": Desired,
    "reported": Reported,
    "command": Command,
    "outcome": Outcome,
    "unsupported": Unsupported,
}
_NAMES: Final = {model: name for name, model in TYPES.items()}


def pack(frame: Frame) -> bytes:
    """Write a frame as msgpack, keys in the order of its fields after `type`."""
    packed: bytes = msgpack.packb(
        {"type": _NAMES[type(frame)], **frame.model_dump(mode="python")},
        use_bin_type=True,
        default=str,
    )
    return packed


def unpack(data: bytes) -> Frame:
    """Read a frame.

    Raises `FrameInvalid` with code `too_large`, `not_msgpack`, `unknown_type` or `bad_field`.
    """
    if len(data) > MAX_FRAME_BYTES:
        raise FrameInvalid(
            "too_large", f"frame of {len(data)} bytes; at most {MAX_FRAME_BYTES} are read"
        )
    try:
        fields = msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise FrameInvalid("not_msgpack", str(error)) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise FrameInvalid("not_msgpack", "a frame is a map with a text 'type'")
    name = fields.pop("type")
    model = TYPES.get(name)
    if model is None:
        raise FrameInvalid("unknown_type", name[:64])
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise FrameInvalid("bad_field", _explain(error)) from error


def ranges_of(seqs: list[int]) -> tuple[Range, ...]:
    """Fold seqs, sorted or not, into closed ranges in ascending order."""
    ranges: list[Range] = []
    for seq in sorted(set(seqs)):
        if ranges and ranges[-1][1] + 1 == seq:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return tuple(ranges)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors(include_input=False)[:5]
    )
