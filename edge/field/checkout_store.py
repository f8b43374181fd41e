"""Check-outs on disk, in the configuration database; all of it blocks.

A record is only ever added: what was found first stays, what was found last counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.config_store import ConfigStore
from edge.field.checkout import CheckOutRefused, Head, Item, Progress, Record, Verdict
from shared.model import PointType

MOST_CHECKOUTS: Final = 200
MOST_RECORDS: Final = 200_000
"""Records of one check-out."""


@dataclass(frozen=True, slots=True)
class CheckOutStore:
    """Reads and writes check-outs."""

    store: ConfigStore

    def begin(self, title: str, by: str, at_us: int, items: Sequence[Item]) -> int:
        """Keep a new check-out with its points; gives its number."""
        if len(self.store.rows("SELECT 1 FROM checkouts")) >= MOST_CHECKOUTS:
            text = f"{MOST_CHECKOUTS} check-outs are kept: export and delete an old one"
            raise CheckOutRefused("too_many", text)
        with self.store.writing() as db:
            head = {"title": title, "by": by, "at_us": at_us, "closed_us": None}
            number = db.table("checkouts").insert(head).last_pk
            assert isinstance(number, int)  # noqa: S101 - the key is a number
            db.table("checkout_items").insert_all(
                {"checkout": number, "position": at, **_item_fields(one)}
                for at, one in enumerate(items)
            )
        return number

    def heads(self) -> list[Head]:
        """List the check-outs, newest first."""
        return [_head(row) for row in self.store.rows(f"{_HEADS} GROUP BY c.number {_NEWEST}")]

    def head(self, number: int) -> Head | None:
        """Read a check-out without its points."""
        query = f"{_HEADS} WHERE c.number = ? GROUP BY c.number"
        return next((_head(row) for row in self.store.rows(query, [number])), None)

    def items(self, number: int) -> list[Item]:
        """Read the points of a check-out, each with its last record."""
        query = f"{_ITEMS} ORDER BY i.position"
        return [_item(row) for row in self.store.rows(query, [number, number])]

    def item(self, number: int, key: str) -> Item | None:
        """Read one point of a check-out."""
        found = self.store.rows(f"{_ITEMS} AND i.key = ?", [number, number, key])
        return _item(found[0]) if found else None

    def add(self, number: int, record: Record) -> None:
        """Add a record. Raises `CheckOutRefused` where there are too many."""
        counted = self.store.rows(
            "SELECT count(*) AS n FROM checkout_records WHERE checkout = ?", [number]
        )
        if counted[0]["n"] >= MOST_RECORDS:
            text = "this check-out has as many records as are kept: begin another one"
            raise CheckOutRefused("too_many", text)
        with self.store.writing() as db:
            db.table("checkout_records").insert({"checkout": number, **_record_fields(record)})

    def history(self, number: int, key: str) -> list[Record]:
        """List the records of one point, oldest first."""
        query = "SELECT * FROM checkout_records WHERE checkout = ? AND key = ? ORDER BY number"
        return [_record(row) for row in self.store.rows(query, [number, key])]

    def close(self, number: int, at_us: int | None) -> None:
        """Note that a check-out is closed, or (None) open again."""
        with self.store.writing() as db:
            db.execute("UPDATE checkouts SET closed_us = ? WHERE number = ?", [at_us, number])

    def delete(self, number: int) -> None:
        """Forget a check-out with all that was recorded."""
        with self.store.writing() as db:
            for statement in _DELETIONS:
                db.execute(statement, [number])


_ITEMS: Final = """
    SELECT i.key AS item_key, i.device, i.unit, i.type, n.tests, r.*
    FROM checkout_items i
    LEFT JOIN (
        SELECT key, max(number) AS last, count(*) AS tests
        FROM checkout_records WHERE checkout = ? GROUP BY key
    ) n ON n.key = i.key
    LEFT JOIN checkout_records r ON r.number = n.last
    WHERE i.checkout = ?
"""
_HEADS: Final = """
    SELECT c.*, sum(r.verdict = 'pass') AS passed, sum(r.verdict = 'fail') AS failed,
        sum(r.verdict = 'na') AS na,
        (SELECT count(*) FROM checkout_items i WHERE i.checkout = c.number) AS total
    FROM checkouts c
    LEFT JOIN checkout_records r ON r.checkout = c.number AND r.number = (
        SELECT max(l.number) FROM checkout_records l
        WHERE l.checkout = r.checkout AND l.key = r.key
    )
"""
_NEWEST: Final = "ORDER BY c.number DESC"
_DELETIONS: Final = (
    "DELETE FROM checkout_records WHERE checkout = ?",
    "DELETE FROM checkout_items WHERE checkout = ?",
    "DELETE FROM checkouts WHERE number = ?",
)


def _head(row: Mapping[str, Any]) -> Head:
    counts = [row[name] or 0 for name in ("total", "passed", "failed", "na")]
    own = {name: row[name] for name in ("number", "title", "by", "at_us", "closed_us")}
    return Head(**own, progress=Progress(*counts))


def _item_fields(item: Item) -> dict[str, Any]:
    return {"key": item.key, "device": item.device, "unit": item.unit, "type": item.type.value}


def _item(row: Mapping[str, Any]) -> Item:
    record = None if row["number"] is None else _record(row)
    kind = PointType(row["type"])
    return Item(row["item_key"], row["device"], row["unit"], kind, record, row["tests"] or 0)


def _record_fields(record: Record) -> dict[str, Any]:
    return {
        "key": record.key,
        "expected": json.dumps(record.expected),
        "tolerance": record.tolerance,
        "value": record.value,
        "text": record.text,
        "quality": record.quality,
        "observed_at": record.observed_at,
        "verdict": record.verdict.value,
        "note": record.note,
        "by": record.by,
        "at_us": record.at_us,
    }


def _record(row: Mapping[str, Any]) -> Record:
    fields = {name: row[name] for name in Record.__dataclass_fields__}
    fields["expected"] = json.loads(row["expected"])
    fields["verdict"] = Verdict(row["verdict"])
    return Record(**fields)
