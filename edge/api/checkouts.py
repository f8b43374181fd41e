"""Check-outs: each point of a building held against what was expected, as a record to hand over."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from edge.api.access import TECHNICIAN, VIEWER
from edge.api.context import Here
from edge.api.imports import CSV
from edge.api.readings import ReadingTold
from edge.api.revisions import Given
from edge.api.words import Moment, moment
from edge.field.checkout import Expected, Finding, Head, Item, Record, Verdict
from edge.field.checkout_report import csv_of, page_of
from edge.field.shown import Shown, words_of
from shared.model import KEY_LENGTH

router = APIRouter(prefix="/api/v1/checkouts", tags=["check-outs"])

PRINTED = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""The content policy of the page: it stands alone and has no script."""

Number = Annotated[int, Path(ge=0, le=2**53)]
Key = Annotated[str, Path(max_length=KEY_LENGTH)]
Text = Annotated[str, Field(max_length=200)]
Who = Annotated[str, Field(min_length=1, max_length=100, description="Who says so.")]


class BeginGiven(Given):
    """A check-out to begin: of some devices, of some points, or of all."""

    title: str = Field(min_length=1, max_length=200)
    by: Who
    devices: list[Text] = Field([], max_length=1_000)
    keys: list[Text] = Field([], max_length=20_000)


class FindingGiven(Given):
    """What a person says of a point, looking at the plant."""

    by: Who
    expected: float | Text | None = Field(None, description="What the plant shows.")
    tolerance: float | None = Field(None, ge=0, allow_inf_nan=False, description="Else usual.")
    verdict: Verdict | None = Field(None, description="pass, fail, na; else the numbers decide.")
    note: str = Field("", max_length=1_000)


class ProgressTold(BaseModel):
    """How far a check-out is."""

    total: int
    done: int
    passed: int
    failed: int
    na: int


class HeadTold(BaseModel):
    """A check-out without its points."""

    number: int
    title: str
    by: str
    at: Moment
    closed_at: Moment | None
    progress: ProgressTold


class RecordTold(BaseModel):
    """One test of a point."""

    expected: float | str | None
    tolerance: float | None
    shown: float | str | None
    quality_text: str
    verdict: Verdict
    deviation: float | None
    note: str
    by: str
    at: Moment


class ItemTold(BaseModel):
    """A point of a check-out: what it shows now, and its last record."""

    key: str
    device: str
    unit: str
    tests: int
    now: ReadingTold | None
    record: RecordTold | None


class RecordList(BaseModel):
    """All tests of a point, oldest first."""

    records: list[RecordTold]


class CheckOutList(BaseModel):
    """Check-outs, newest first."""

    checkouts: list[HeadTold]


class CheckOutTold(HeadTold):
    """A check-out with some of its points; `next` is the place after them, null at the end."""

    items: list[ItemTold]
    next: int | None


@router.get("", dependencies=[VIEWER])
async def list_checkouts(here: Here) -> CheckOutList:
    """List the check-outs."""
    return CheckOutList(checkouts=[_head(one) for one in await here.tools.checkouts.heads()])


@router.post("", status_code=201, dependencies=[TECHNICIAN])
async def begin_checkout(given: BeginGiven, here: Here) -> HeadTold:
    """Begin a check-out; its points are fixed then."""
    made = await here.tools.checkouts.begin(given.title, given.by, given.devices, given.keys)
    return _head(made.head)


@router.get("/{number}", dependencies=[VIEWER])
async def one_checkout(
    number: Number,
    here: Here,
    start: Annotated[int, Query(ge=0, le=20_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> CheckOutTold:
    """Give a check-out with its points from a place on."""
    found = await here.tools.checkouts.find(number)
    end = start + limit
    return CheckOutTold(
        **_head(found.head).model_dump(),
        items=[_item(here, one) for one in found.items[start:end]],
        next=end if end < len(found.items) else None,
    )


@router.post("/{number}/records/{key:path}", status_code=201, dependencies=[TECHNICIAN])
async def record(number: Number, key: Key, given: FindingGiven, here: Here) -> RecordTold:
    """Record what was found of a point, with what the gateway shows of it at this moment."""
    finding = Finding(given.by, given.expected, given.tolerance, given.verdict, given.note)
    return _record(await here.tools.checkouts.record(number, key, finding))


@router.get("/{number}/records/{key:path}", dependencies=[VIEWER])
async def records(number: Number, key: Key, here: Here) -> RecordList:
    """List all that was recorded of a point."""
    found = await here.tools.checkouts.history(number, key)
    return RecordList(records=[_record(one) for one in found])


@router.post("/{number}/close", dependencies=[TECHNICIAN])
async def close_checkout(number: Number, here: Here) -> HeadTold:
    """End a check-out."""
    return _head(await here.tools.checkouts.close(number))


@router.post("/{number}/reopen", dependencies=[TECHNICIAN])
async def reopen_checkout(number: Number, here: Here) -> HeadTold:
    """Go on with a check-out that was closed."""
    return _head(await here.tools.checkouts.reopen(number))


@router.delete("/{number}", status_code=204, dependencies=[TECHNICIAN])
async def delete_checkout(number: Number, here: Here) -> None:
    """Forget a check-out for good."""
    await here.tools.checkouts.delete(number)


@router.get("/{number}/checkout.csv", dependencies=[VIEWER])
async def checkout_csv(number: Number, here: Here) -> Response:
    """Give a check-out as a table."""
    found = await here.tools.checkouts.find(number)
    headers = {"Content-Disposition": f'attachment; filename="checkout-{number}.csv"'}
    return Response(csv_of(found), media_type=CSV, headers=headers)


@router.get("/{number}/checkout.html", dependencies=[VIEWER])
async def checkout_page(number: Number, here: Here) -> Response:
    """Give a check-out as a page to print and sign."""
    found = await here.tools.checkouts.find(number)
    text = page_of(found, here.identity.gateway(), here.parts.clock.now_us())
    headers = {"Content-Security-Policy": PRINTED}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)


def _head(one: Head) -> HeadTold:
    progress = one.progress
    return HeadTold(
        number=one.number,
        title=one.title,
        by=one.by,
        at=moment(one.at_us),
        closed_at=None if one.closed_us is None else moment(one.closed_us),
        progress=ProgressTold(
            total=progress.total,
            done=progress.done,
            passed=progress.passed,
            failed=progress.failed,
            na=progress.na,
        ),
    )


def _item(here: Here, one: Item) -> ItemTold:
    shown = here.tools.checkouts.shown(one)
    return ItemTold(
        key=one.key,
        device=one.device,
        unit=one.unit,
        tests=one.tests,
        now=None if shown is None else _reading(shown),
        record=None if one.record is None else _record(one.record),
    )


def _reading(shown: Shown) -> ReadingTold:
    return ReadingTold(
        value=shown.text if shown.text is not None else shown.value,
        quality=shown.quality,
        quality_text=shown.words,
        observed_at=moment(shown.observed_at),
    )


def _record(one: Record) -> RecordTold:
    expected: Expected = one.expected
    return RecordTold(
        expected=expected,
        tolerance=one.tolerance,
        shown=one.text if one.text is not None else one.value,
        quality_text="" if one.quality is None else words_of(one.quality),
        verdict=one.verdict,
        deviation=one.deviation,
        note=one.note,
        by=one.by,
        at=moment(one.at_us),
    )
