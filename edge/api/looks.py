"""Looks at a device before anything is saved: connection test, test read, browsing, the matrix."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from edge.api.access import TECHNICIAN
from edge.api.context import Here
from edge.api.problems import ApiProblem
from edge.api.readings import ReadingTold
from edge.api.revisions import Given
from edge.api.words import moment
from edge.field.browsing import LIMIT, Question, SeenPage
from edge.field.connection_test import StepReport, check_connection
from edge.field.decode_matrix import matrix_of
from edge.field.reading import MAX_POINTS, read_target
from edge.field.shown import Shown
from edge.field.target import Target, target_in, target_of

router = APIRouter(prefix="/api/v1", tags=["looks"], dependencies=[TECHNICIAN])

Id = Annotated[str, Path(max_length=40)]


class TargetGiven(Given):
    """A device to look at: a configured one by its name, or one that is not saved yet."""

    device: str = Field("", max_length=80, description="Name of a configured device.")
    driver: str = Field("", max_length=80, description="Else the driver, and its options.")
    options: dict[str, Any] = Field({}, description="The driver's options.")
    points: list[dict[str, Any]] | None = Field(
        None, max_length=MAX_POINTS, description="Entries of `points`; else the device's own."
    )


class BrowseGiven(TargetGiven):
    """A device to browse, and the first question."""

    parent: str = Field("", max_length=4_096)
    limit: int = Field(200, ge=1, le=LIMIT)


class QuestionGiven(Given):
    """Another question of a browse session."""

    parent: str = Field("", max_length=4_096, description="`id` of the folder; empty: the top.")
    cursor: str = Field("", max_length=4_096)
    limit: int = Field(200, ge=1, le=LIMIT)


class MatrixGiven(TargetGiven):
    """A Modbus device, and the number that its manual names."""

    number: int = Field(ge=0, le=465_536)
    table: Literal["holding", "input"] = "holding"


class TroubleTold(BaseModel):
    """What is behind a failed step."""

    code: str
    text: str
    cause: str = Field(description="What is likely behind it.")
    remedy: str = Field(description="What to try.")


class StepTold(BaseModel):
    """A step of the connection test."""

    step: Literal["network", "session", "identity", "read"]
    outcome: Literal["ok", "failed", "skipped"]
    text: str
    took_ms: float
    trouble: TroubleTold | None
    facts: dict[str, str] = Field(description="What the device says of itself.")


class ValueTold(BaseModel):
    """A point that was read; nothing of it was kept."""

    key: str
    unit: str
    reading: ReadingTold


class TestTold(BaseModel):
    """The connection test: four steps, up to the first that fails, and each point's value."""

    good: bool
    steps: list[StepTold]
    values: list[ValueTold]


class ReadTold(BaseModel):
    """The points that were read."""

    values: list[ValueTold]


class NodeTold(BaseModel):
    """Something that the device has; `known_as` is the key of the point that reads it already."""

    id: str
    name: str
    has_children: bool
    source: dict[str, Any] | None
    key: str
    unit: str
    type: str
    is_writable: bool
    value: str
    description: str
    known_as: str


class BrowseTold(BaseModel):
    """A page of a browse session."""

    session: str
    nodes: list[NodeTold]
    cursor: str


class CandidateTold(BaseModel):
    """One way to read the number; `source` are the point options that read it so."""

    notation: str
    source: dict[str, Any]
    value: float | None
    is_plausible: bool


class MatrixTold(BaseModel):
    """All ways to read the number, the plausible ones first."""

    candidates: list[CandidateTold]


@router.post("/looks/test")
async def test_connection(given: TargetGiven, here: Here) -> TestTold:
    """Test network, session, identity and a read, beside the running connection."""
    target = await _target(here, given)
    with here.tools.looks.one():
        report = await check_connection(target, clock=here.parts.clock)
    return TestTold(
        good=report.is_good,
        steps=[step_told(one) for one in report.steps],
        values=_values(report.values),
    )


@router.post("/looks/read")
async def test_read(given: TargetGiven, here: Here) -> ReadTold:
    """Read up to 64 points once; nothing is kept."""
    target = await _target(here, given)
    with here.tools.looks.one():
        return ReadTold(values=_values(await read_target(target)))


@router.post("/looks/matrix")
async def decode_matrix(given: MatrixGiven, here: Here) -> MatrixTold:
    """Read one number of a Modbus manual under every notation, type and order."""
    target = await _target(here, given)
    with here.tools.looks.one():
        found = await matrix_of(target, given.number, given.table)
    candidates = [
        CandidateTold(
            notation=one.address.notation,
            source=one.source,
            value=one.value if abs(one.value) < float("inf") else None,
            is_plausible=one.is_plausible,
        )
        for one in found
    ]
    return MatrixTold(candidates=candidates)


@router.post("/browse", status_code=201)
async def begin_browsing(given: BrowseGiven, here: Here) -> BrowseTold:
    """Open a session beside whatever runs, and list what is at the top or in a folder."""
    target = await _target(here, given)
    question = Question(given.parent, "", given.limit)
    page = await here.tools.browser.begin(target, question, here.twin.devices)
    return _page(page)


@router.post("/browse/{session}")
async def browse(session: Id, given: QuestionGiven, here: Here) -> BrowseTold:
    """Look further in a browse session; it ends when it is idle for a minute."""
    question = Question(given.parent, given.cursor, given.limit)
    return _page(await here.tools.browser.look(session, question, here.twin.devices))


@router.delete("/browse/{session}", status_code=204)
async def end_browsing(session: Id, here: Here) -> None:
    """Close a browse session."""
    here.tools.browser.end(session)


async def _target(here: Here, given: TargetGiven) -> Target:
    if not given.device:
        section = given.model_dump(include={"driver", "options"}) | {"points": given.points or []}
        return await asyncio.to_thread(target_in, section, here.twin.secrets)
    device = next((one for one in here.twin.devices if one.name == given.device), None)
    if device is None:
        raise ApiProblem("not_found", f"There is no device {given.device!r}.")
    return await asyncio.to_thread(target_of, device, given.points)


def step_told(one: StepReport) -> StepTold:
    """Tell of a step of the connection test."""
    why = one.trouble
    return StepTold(
        step=one.step.value,
        outcome=one.outcome.value,
        text=one.text,
        took_ms=one.took_ms,
        trouble=why
        and TroubleTold(code=why.code, text=why.text, cause=why.cause, remedy=why.remedy),
        facts=dict(one.facts),
    )


def _values(shown: Sequence[Shown]) -> list[ValueTold]:
    return [
        ValueTold(
            key=one.key,
            unit=one.unit,
            reading=ReadingTold(
                value=one.text if one.text is not None else one.value,
                quality=one.quality,
                quality_text=one.words,
                observed_at=moment(one.observed_at),
            ),
        )
        for one in shown
    ]


def _page(page: SeenPage) -> BrowseTold:
    nodes = [
        NodeTold(
            id=one.node.id,
            name=one.node.name,
            has_children=one.node.has_children,
            source=None if one.node.source is None else dict(one.node.source),
            key=one.node.key,
            unit=one.node.unit,
            type=one.node.type.value,
            is_writable=one.node.is_writable,
            value=one.node.value,
            description=one.node.description,
            known_as=one.known_as,
        )
        for one in page.nodes
    ]
    return BrowseTold(session=page.session, nodes=nodes, cursor=page.cursor)
