"""A check-out as people hand it over: a table for spreadsheets, and a page to print and sign."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from edge.exchange.sheets import write_csv
from edge.field.checkout import CheckOut, Expected, Item, Record, Verdict
from edge.field.shown import words_of
from shared.clock import to_datetime

_PAGE: Final = Path(__file__).with_name("checkout.html")
_HEADING: Final = (
    "point",
    "device",
    "unit",
    "expected",
    "tolerance",
    "shown",
    "deviation",
    "quality",
    "read at",
    "verdict",
    "note",
    "by",
    "at",
    "tests",
)
_SAID: Final = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.NA: "n.a."}

Cell = str | float | None


def csv_of(checkout: CheckOut) -> bytes:
    """Write every point with its last record; one that was not checked has an empty verdict."""
    return write_csv([_HEADING, *(_row(one) for one in checkout.items)])


def page_of(checkout: CheckOut, gateway: str, now_us: int) -> str:
    """Make a page of HTML that stands alone and fits A4; nothing in it is taken for markup."""
    head, progress = checkout.head, checkout.head.progress
    fields = {
        "title": head.title,
        "gateway": gateway,
        "begun": f"{_at(head.at_us)} by {head.by}",
        "closed": "still open" if head.closed_us is None else _at(head.closed_us),
        "printed": _at(now_us),
        "done": f"{progress.done}/{progress.total}",
        "passed": str(progress.passed),
        "failed": str(progress.failed),
        "na": str(progress.na),
        "number": str(head.number),
    }
    escaped = {name: escape(text) for name, text in fields.items()}
    share = 100 * progress.done / progress.total if progress.total else 0
    rows = "\n".join(_lines(checkout))
    template = Template(_PAGE.read_text("utf-8"))
    return template.substitute(escaped, rows=rows, share=f"{share:.0f}")


def _row(item: Item) -> list[Cell]:
    record, own = item.record, [item.key, item.device, item.unit]
    if record is None:
        return [*own, *[None] * (len(_HEADING) - 4), item.tests]
    return [
        *own,
        record.expected,
        record.tolerance,
        record.value if record.text is None else record.text,
        None if record.deviation is None else round(record.deviation, 9),
        "" if record.quality is None else words_of(record.quality),
        "" if record.observed_at is None else to_datetime(record.observed_at).isoformat(),
        record.verdict.value,
        record.note,
        record.by,
        to_datetime(record.at_us).isoformat(),
        item.tests,
    ]


def _lines(checkout: CheckOut) -> Iterator[str]:
    device = None
    for item in checkout.items:
        if item.device != device:
            device = item.device
            yield f'<tr class="device"><th colspan="7" scope="rowgroup">{escape(device)}</th></tr>'
        yield _line(item)


def _line(item: Item) -> str:
    record = item.record
    state = "open" if record is None else record.verdict.value
    cells = dict.fromkeys(("expected", "tolerance", "shown", "verdict", "note"), "")
    if record is not None:
        cells = {
            "expected": _with_unit(_expected(record.expected), item.unit),
            "tolerance": "" if record.tolerance is None else f"± {_number(record.tolerance)}",
            "shown": _shown(record, item.unit),
            "verdict": _SAID[record.verdict],
            "note": record.note,
        }
    told = {"point": item.key, **cells}
    made = "".join(
        f'<td class="{name}" data-name="{name}">{escape(text)}</td>' for name, text in told.items()
    )
    return f'<tr class="{state}">{made}<td class="who">{_who(item)}</td></tr>'


def _who(item: Item) -> str:
    if item.record is None:
        return ""
    again = f"<span>test {item.tests}</span>" if item.tests > 1 else ""
    return f"{escape(item.record.by)} <span>{_at(item.record.at_us)}</span> {again}"


def _shown(record: Record, unit: str) -> str:
    if record.quality is None:
        return ""
    if record.value is None and record.text is None:
        return words_of(record.quality)
    said = record.text if record.text is not None else _number(record.value or 0.0)
    doubt = "" if record.quality == 0 else f" ({words_of(record.quality)})"
    return _with_unit(said, unit) + doubt


def _expected(expected: Expected) -> str:
    return _number(expected) if isinstance(expected, float) else expected or ""


def _with_unit(said: str, unit: str) -> str:
    return f"{said} {unit}".strip() if said else ""


def _number(value: float) -> str:
    return f"{value:.6g}"


def _at(at_us: int) -> str:
    return f"{to_datetime(at_us):%Y-%m-%d %H:%M} UTC"
