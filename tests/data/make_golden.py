"""Writes the golden files of the link frames and batch bodies that are not there yet.

Run `PYTHONPATH=. python tests/data/make_golden.py`. A golden file is a promise to peers of another
version, so an existing one is never overwritten: delete it on purpose, and say why in the commit.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shared import link
from shared.batch import encode, encode_events
from shared.columns import Columns
from shared.model import Kind, Point, PointClass, PointSet, PointType
from shared.quality import Flag, Reason, bad, uncertain

HERE = Path(__file__).parent
START_US = 1_700_000_000_000_000
EPOCH = 0x1234_5678_9ABC_DEF0
POINTS = PointSet(
    (
        Point("ahu1/supply_temp", "degC"),
        Point("ahu1/fan", "", PointType.BOOLEAN, PointClass.HIGH),
        Point("room1/state", "", PointType.TEXT, PointClass.LOW),
        Point("room1/smoke", "", PointType.BOOLEAN, PointClass.ALERT),
    )
)
GAP = {
    "event": "gap",
    "id": bytes(range(16)),
    "cause": "dropped",
    "reason": "outbox_full",
    "series": [[0, 1], [3, 3]],
    "from_us": START_US,
    "to_us": START_US + 60_000_000,
    "count": 120,
    "missed": None,
    "voided": [{"epoch": EPOCH, "seqs": [[4, 6]]}],
}


def frames() -> dict[str, link.Frame]:
    """At least one frame of every type, each with every key set."""
    settled = link.Settled(
        epoch=EPOCH, seqs=((0, 3), (5, 5)), delivered=4_990, collapsed=7, quarantined=3
    )
    return {
        "hello": link.Hello(
            version=1,
            session=bytes(range(16)),
            pending=(link.Pending(epoch=EPOCH, seqs=((0, 3), (5, 9))),),
            clock=link.ClockState(utc_us=START_US, synchronised=True, boot_id="boot-1"),
            software="spine-edge 0.1.0",
            config_revision=17,
        ),
        "welcome": link.Welcome(
            version=1,
            settled=(settled,),
            utc_us=START_US + 1,
            config_revision=18,
            window_bytes=1_048_576,
            max_body_bytes=link.MAX_BODY_BYTES,
        ),
        "need_point_set": link.NeedPointSet(hash=POINTS.hash),
        "point_set": link.PointSetFrame(
            hash=POINTS.hash,
            points=tuple((key, unit, kind, klass) for key, unit, kind, klass in POINTS.rows()),
        ),
        "batch": link.Batch(
            epoch=EPOCH,
            seq=9,
            kind=Kind.READINGS,
            count=2,
            point_set=POINTS.hash,
            body=b"the sealed bytes",
        ),
        "receipt": link.Receipt(
            accepted=(link.Accepted(epoch=EPOCH, seqs=((6, 9),)),), settled=(settled,)
        ),
        "retry_after": link.RetryAfter(epoch=EPOCH, seq=9, seconds=2.5, reason="log_away"),
        "refused": link.RefusedFrame(
            epoch=EPOCH,
            seq=9,
            problem=link.Problem(code="checksum", detail="the bytes are not those sealed"),
        ),
        "desired": link.Desired(
            revision=18, hash=bytes(32), document={"devices": []}, base=bytes(range(32))
        ),
        "reported": link.Reported(revision=18, sections={"devices": {"state": "applied"}}),
        "command": link.Command(id=bytes(range(16)), document={"point": "ahu1/fan", "value": 1}),
        "command_timed": link.Command(
            id=bytes(range(16, 32)),
            document={
                "point": "ahu1/supply_setpoint",
                "value": 21.5,
                "priority": 10,
                "not_before_us": START_US,
                "expires_us": START_US + 60_000_000,
                "lease_s": 900.0,
                "reason": "night",
                "actor": "eve",
            },
        ),
        "outcome": link.Outcome(id=bytes(range(16)), state="refused", detail="not writable"),
        "unsupported": link.Unsupported(frame="command"),
    }


def batches() -> dict[str, Columns]:
    """Batches that together use every section, kind and corner of the format."""
    return {
        "empty": Columns.empty(),
        "one": Columns.of([7], [START_US], [21.5], [0]),
        "poll_groups": _poll_groups(),
        "kinds": _kinds(),
        "corners": _corners(),
        "texts": Columns.of(
            [2, 0, 2, 2],
            [START_US, START_US, START_US + 1, START_US + 2],
            [np.nan, 1.0, np.nan, 3.0],
            [0, 0, 0, uncertain(Reason.STALE)],
            {0: "öffen", 2: "", 3: "3 persons\n"},
        ),
        "qualities": Columns.of(
            [0] * 6,
            START_US + np.arange(6) * 1_000,
            [1.0, np.nan, np.nan, 2.0, 2.0, 2.0],
            [
                0,
                bad(Reason.LINK_DOWN),
                bad(Reason.NOT_A_NUMBER, Flag.CLOCK_UNSYNCHRONISED),
                uncertain(Reason.SUBSTITUTED),
                int(Flag.FORCED | Flag.CORRECTED),
                65_535,
            ],
        ),
    }


def _poll_groups() -> Columns:
    """Three devices polled five times, each with a time of its own."""
    rows = [
        (series, START_US + second * 1_000_000 + device * 7_001, 20 + series / 10 + second / 100)
        for second in range(5)
        for device in range(3)
        for series in range(device * 4, device * 4 + 4)
    ]
    series, times, values = zip(*rows, strict=True)
    return Columns.of(series, times, np.round(values, 2), [0] * len(rows))


def _kinds() -> Columns:
    """A series for every kind of value."""
    walks = [
        [1.0, 2.0, 4.0],
        [21.55, 21.5, -0.25],
        [217 * 0.1, 219 * 0.1, 3 * 0.1],
        [float(np.float32(21.79)), float(np.float32(21.8)), float(np.float32(-0.1))],
        [float(np.float32(np.pi)), float(np.float32(-np.e)), 1.5],
        [np.pi, -np.e, 1e300],
        [3.4666666667, 20.0333333333, 0.1],
    ]
    series = [row for row in range(len(walks)) for _ in range(3)]
    times = [START_US, START_US + 600_000_000, START_US + 1_200_000_000] * len(walks)
    return Columns.of(series, times, np.concatenate(walks), [0] * len(series))


def _corners() -> Columns:
    """The ends of every range."""
    values = [-0.0, 0.0, np.inf, -np.inf, 5e-324, -2.2250738585072014e-308, 2.0**53, -(2.0**63)]
    low, high = -(2**63), 2**63 - 1
    return Columns.of(
        [-(2**31), -(2**31), 0, 0, 0, 2**31 - 1, 2**31 - 1, 2**31 - 1],
        [low, high, -1, 0, 0, low, 0, high],
        values,
        [0] * len(values),
    )


def readable(value: Any) -> Any:
    """Turn bytes and tuples into JSON, bytes as `{"hex": …}`."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value


def rows_of(columns: Columns) -> list[list[Any]]:
    """List readings as `[series, observed_at, bits of the value | null, quality, text | null]`."""
    bits = [
        None if np.isnan(value) else struct_bits
        for value, struct_bits in zip(
            columns.value.tolist(),
            (f"{bits:016x}" for bits in columns.value.view(np.uint64).tolist()),
            strict=True,
        )
    ]
    return [
        [series, at, bits[row], quality, columns.texts.get(row)]
        for row, (series, at, quality) in enumerate(
            zip(
                columns.series.tolist(),
                columns.observed_at.tolist(),
                columns.quality.tolist(),
                strict=True,
            )
        )
    ]


def files() -> Iterator[tuple[Path, bytes]]:
    """Name every golden file, with what it would hold if it were made now."""
    for name, frame in frames().items():
        yield HERE / "link" / f"{name}.msgpack", link.pack(frame)
        kind = next(kind for kind, model in link.TYPES.items() if model is type(frame))
        fields = {"type": kind, **readable(frame.model_dump(mode="python"))}
        yield HERE / "link" / f"{name}.json", _json(fields)
    for name, columns in batches().items():
        yield HERE / "batch" / f"{name}.batch", encode(columns)
        ordered = columns.take(np.lexsort((columns.observed_at, columns.series)))
        yield HERE / "batch" / f"{name}.json", _json(rows_of(ordered))
    yield HERE / "batch" / "gap.events", encode_events([GAP])
    yield HERE / "batch" / "gap.json", _json([readable(GAP)])


def _json(value: Any) -> bytes:
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
        return f"[\n{lines}\n]\n".encode()
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def main() -> None:
    """Write the files that are missing."""
    for path, data in files():
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
