"""Report and aggregation policies by class of points."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from edge.api import revisions
from edge.api.access import TECHNICIAN, VIEWER, Technician
from edge.api.context import Here
from edge.api.documents import changed
from edge.api.revisions import Base, Given, RevisionTold

router = APIRouter(prefix="/api/v1/policies", tags=["configuration"])


class PoliciesTold(BaseModel):
    """The policies in force."""

    policies: dict[str, Any] = Field(description="By class: low, normal, high, alert.")


class PoliciesGiven(Given):
    """All policies, which replace those in force."""

    policies: dict[str, Any] = Field(description="By class: low, normal, high, alert.")
    reason: str = Field("", max_length=500, description="Why, for people.")


@router.get("", dependencies=[VIEWER])
async def policies(here: Here, response: Response) -> PoliciesTold:
    """Give the policies."""
    revisions.tag(response, here)
    return PoliciesTold(policies=dict(here.twin.current.document.get("policies", {})))


@router.put("", dependencies=[TECHNICIAN])
async def put_policies(
    given: PoliciesGiven, base: Base, caller: Technician, here: Here, response: Response
) -> RevisionTold:
    """Replace the policies."""

    def change(document: dict[str, Any]) -> None:
        document["policies"] = given.policies

    document = changed(here.twin.current.document, change)
    reason = given.reason or "policies"
    made = await revisions.change(here, caller, document, base, reason)
    revisions.tag(response, here)
    return revisions.told(made.head)
