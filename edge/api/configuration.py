"""The configuration as a whole: the document in force, its history, undo, and proposals."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from edge.api import revisions
from edge.api.access import TECHNICIAN, VIEWER, Technician
from edge.api.context import Here
from edge.api.problems import ApiProblem, FieldProblem
from edge.api.revisions import Base, Given, RevisionTold
from edge.api.words import Moment, moment
from edge.config_store import Revision
from edge.proposals import Proposal
from edge.twin import REASON_LENGTH

router = APIRouter(prefix="/api/v1", tags=["configuration"])

DOCUMENT_PATHS = ("/api/v1/configuration", "/api/v1/configuration/check")
"""Paths whose bodies hold a whole document."""

Number = Annotated[int, Path(ge=0, le=2**53)]


class DocumentGiven(Given):
    """A whole document, with a reason for people."""

    document: dict[str, Any] = Field(description="`devices` and `policies`, as in gateway.yaml.")
    reason: str = Field("", max_length=REASON_LENGTH)


class DocumentTold(BaseModel):
    """A revision with its document; passwords are references to secrets."""

    revision: RevisionTold
    document: dict[str, Any]
    problems: list[FieldProblem] = Field(description="What is left out of it by now, and why.")
    ahead_of_central: bool = Field(description="Whether central has not agreed on it yet.")


class CheckTold(BaseModel):
    """What is wrong with a document."""

    good: bool
    fields: list[FieldProblem]


class RevisionList(BaseModel):
    """Revisions, newest first."""

    revisions: list[RevisionTold]


class ProposalTold(BaseModel):
    """A document that waits for a decision."""

    number: int
    base: int = Field(description="The revision in force when it came.")
    source: str
    reason: str
    at: Moment
    document: dict[str, Any]


class ProposalList(BaseModel):
    """The proposals that wait, oldest first."""

    proposals: list[ProposalTold]


@router.get("/configuration", dependencies=[VIEWER])
async def configuration(here: Here, response: Response) -> DocumentTold:
    """Give the document in force; its revision is the ETag."""
    revisions.tag(response, here)
    return _document(here, here.twin.current)


@router.put("/configuration", dependencies=[TECHNICIAN])
async def replace_configuration(
    given: DocumentGiven, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Put a whole document in force, as one change; only devices that it changes restart."""
    made = await revisions.change(here, caller, given.document, base, given.reason)
    revisions.tag(response, here)
    return revisions.told(made.head)


@router.post("/configuration/check", dependencies=[VIEWER])
def check_configuration(given: DocumentGiven, here: Here) -> CheckTold:
    """Find everything that is wrong with a document; nothing is changed."""
    found = here.twin.check(given.document)
    fields = [FieldProblem(place=one.path, detail=one.text) for one in found[:1_000]]
    return CheckTold(good=not found, fields=fields)


@router.post("/configuration/undo", dependencies=[TECHNICIAN])
async def undo(base: Base, caller: Technician, here: Here, response: Response) -> RevisionTold:
    """Return to the revision before; again and again, one step further each time."""
    made = await here.twin.undo(caller.source, base=base)
    revisions.tag(response, here)
    return revisions.told(made.head)


@router.get("/configuration/revisions", dependencies=[VIEWER])
async def list_revisions(here: Here) -> RevisionList:
    """List the revisions that are kept."""
    return RevisionList(revisions=[revisions.told(one) for one in here.twin.history()])


@router.get("/configuration/revisions/{number}", dependencies=[VIEWER])
async def one_revision(number: Number, here: Here) -> DocumentTold:
    """Give a revision with its document."""
    found = await here.twin.revision(number)
    if found is None:
        raise ApiProblem("not_found", f"Revision {number} is not kept (any more).")
    return _document(here, found)


@router.get("/proposals", dependencies=[VIEWER])
async def list_proposals(here: Here) -> ProposalList:
    """List what central or gateway.yaml wants, and a person here must decide on."""
    return ProposalList(proposals=[_proposal(one) for one in here.twin.proposals()])


@router.post("/proposals/{number}/accept", dependencies=[TECHNICIAN])
async def accept(number: Number, here: Here, response: Response) -> RevisionTold:
    """Put a proposal in force."""
    return await _answered(here, number, response, accepted=True)


@router.post("/proposals/{number}/refuse", dependencies=[TECHNICIAN])
async def refuse(number: Number, here: Here, response: Response) -> RevisionTold:
    """Drop a proposal; what is in force stays."""
    return await _answered(here, number, response, accepted=False)


async def _answered(here: Here, number: int, response: Response, *, accepted: bool) -> RevisionTold:
    if all(one.number != number for one in here.twin.proposals()):
        raise ApiProblem("not_found", f"There is no open proposal {number}.")
    made = await here.twin.answer(number, accept=accepted)
    revisions.tag(response, here)
    return revisions.told(made.head)


def _document(here: Here, revision: Revision) -> DocumentTold:
    is_current = revision.number == here.twin.current.number
    left_out = here.twin.problems if is_current else []
    return DocumentTold(
        revision=revisions.told(revision.head),
        document=dict(revision.document),
        problems=[FieldProblem(place=one.path, detail=one.text) for one in left_out],
        ahead_of_central=is_current and here.twin.is_ahead,
    )


def _proposal(one: Proposal) -> ProposalTold:
    return ProposalTold(
        number=one.number,
        base=one.base,
        source=one.source,
        reason=one.reason,
        at=moment(one.at_us),
        document=dict(one.document),
    )
