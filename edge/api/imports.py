"""Points as files: export, and import in two steps: a dry run, then exactly that, as one change."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from edge.api import revisions
from edge.api.access import TECHNICIAN, VIEWER, Technician
from edge.api.context import Here
from edge.api.problems import ApiProblem
from edge.api.revisions import Given, RevisionTold
from edge.exchange import (
    Comparison,
    Row,
    SheetWrong,
    compare,
    read_ede,
    read_sheet,
    rows_of,
    table_of,
    write_csv,
    write_xlsx,
)

router = APIRouter(prefix="/api/v1", tags=["import and export"])

PATH: Final = "/api/v1/imports"
KEPT: Final = 8
"""Dry runs that are kept; the oldest gives way."""

LISTED: Final = 1_000
CSV: Final = "text/csv; charset=utf-8"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

Id = Annotated[str, Path(max_length=40)]


class FileFormat(StrEnum):
    """What a file is; CSV and XLSX are told apart by their content."""

    TABLE = "table"
    EDE = "ede"


class InvalidRow(BaseModel):
    """A row that cannot be taken."""

    line: int
    key: str
    reasons: list[str]


class Counts(BaseModel):
    """How many points are what; `gone` are points of the file's devices that it does not name."""

    new: int
    changed: int
    same: int
    gone: int
    invalid: int


class ImportTold(BaseModel):
    """A dry run; nothing has changed. Each list holds at most 1,000."""

    id: str
    base: int = Field(description="The revision it was compared with.")
    counts: Counts
    new: list[str]
    changed: list[str]
    gone: list[str]
    invalid: list[InvalidRow]


class ApplyGiven(Given):
    """How a dry run is applied."""

    remove_gone: bool = Field(False, description="Remove the points that the file does not name.")
    skip_invalid: bool = Field(False, description="Leave rows that are invalid out, knowingly.")
    reason: str = Field("", max_length=500, description="Why, for people.")


@dataclass(frozen=True, slots=True)
class DryRun:
    """A comparison and the revision it was made with."""

    base: int
    comparison: Comparison


@router.get("/points.csv", dependencies=[VIEWER])
def export_csv(here: Here) -> Response:
    """Give all points as CSV, which import takes back."""
    return _file(write_csv(_table(here)), CSV, "points.csv")


@router.get("/points.xlsx", dependencies=[VIEWER])
def export_xlsx(here: Here) -> Response:
    """Give all points as a workbook, which import takes back."""
    return _file(write_xlsx(_table(here)), XLSX, "points.xlsx")


@router.post(
    "/imports",
    status_code=201,
    dependencies=[TECHNICIAN],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def dry_run(
    request: Request,
    here: Here,
    file: Annotated[FileFormat, Query(alias="format")] = FileFormat.TABLE,
    device: Annotated[str, Query(max_length=80, description="For files without it.")] = "",
    prefix: Annotated[str, Query(max_length=100, description="Of the keys of an EDE file.")] = "",
) -> ImportTold:
    """Compare a file (CSV, XLSX, EDE), sent as the body, with the configuration."""
    data = await request.body()
    current = here.twin.current

    def compared() -> Comparison:
        return compare(current.document, _rows(data, file, device, prefix))

    try:
        comparison = await asyncio.to_thread(compared)
    except SheetWrong as error:
        raise ApiProblem("sheet_wrong", str(error)) from error
    id_ = secrets.token_urlsafe(12)
    while len(here.dry_runs) >= KEPT:
        here.dry_runs.pop(next(iter(here.dry_runs)))
    here.dry_runs[id_] = run = DryRun(current.number, comparison)
    return _told(id_, run)


@router.get("/imports/{id}", dependencies=[VIEWER])
async def one_dry_run(id: Id, here: Here) -> ImportTold:  # noqa: A002 - the path's word
    """Give a dry run again."""
    return _told(id, _found(here, id))


@router.post("/imports/{id}/apply", dependencies=[TECHNICIAN])
async def apply_import(
    id: Id,  # noqa: A002 - the path's word
    given: ApplyGiven,
    caller: Technician,
    here: Here,
    response: Response,
) -> RevisionTold:
    """Do what the dry run told, as one change that undo takes back; only once."""
    run = _found(here, id)
    invalid = len(run.comparison.invalid)
    if invalid and not given.skip_invalid:
        detail = f"{invalid} rows are invalid: mend them, or leave them out with skip_invalid."
        raise ApiProblem("rows_invalid", detail)
    document = await asyncio.to_thread(run.comparison.document, remove_gone=given.remove_gone)
    reason = given.reason or f"import: {_summary(run.comparison)}"
    made = await revisions.change(here, caller, document, run.base, reason)
    here.dry_runs.pop(id, None)
    revisions.tag(response, here)
    return revisions.told(made.head)


@router.delete("/imports/{id}", status_code=204, dependencies=[TECHNICIAN])
async def drop_dry_run(id: Id, here: Here) -> None:  # noqa: A002 - the path's word
    """Forget a dry run."""
    _found(here, id)
    del here.dry_runs[id]


def _rows(data: bytes, file: FileFormat, device: str, prefix: str) -> Iterator[Row]:
    if file is FileFormat.EDE:
        return read_ede(data, device, prefix)
    return rows_of(read_sheet(data), device)


def _table(here: Here) -> list[Any]:
    return list(table_of(here.twin.current.document.get("devices", ())))


def _file(data: bytes, media_type: str, name: str) -> Response:
    disposition = f'attachment; filename="{name}"'
    return Response(data, media_type=media_type, headers={"Content-Disposition": disposition})


def _found(here: Here, id_: str) -> DryRun:
    found: DryRun | None = here.dry_runs.get(id_)
    if found is None:
        raise ApiProblem("not_found", "There is no such dry run (any more): send the file again.")
    return found


def _summary(comparison: Comparison) -> str:
    return f"{len(comparison.new)} new, {len(comparison.changed)} changed"


def _told(id_: str, run: DryRun) -> ImportTold:
    found = run.comparison
    return ImportTold(
        id=id_,
        base=run.base,
        counts=Counts(
            new=len(found.new),
            changed=len(found.changed),
            same=len(found.same),
            gone=len(found.gone),
            invalid=len(found.invalid),
        ),
        new=found.new[:LISTED],
        changed=found.changed[:LISTED],
        gone=found.gone[:LISTED],
        invalid=[
            InvalidRow(line=one.line, key=one.key, reasons=list(one.reasons))
            for one in found.invalid[:LISTED]
        ],
    )
