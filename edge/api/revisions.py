"""Changes and the revision they are made for: `If-Match` names it, `ETag` tells the new one."""

import re
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from edge.api.access import Caller
from edge.api.context import Context, Here
from edge.api.problems import ApiProblem
from edge.api.words import Moment, moment
from edge.config_store import Head, Revision
from edge.twin import Conflict

_ETAG: Final = re.compile(r'(?:W/)?"(\d{1,15})"')


class Given(BaseModel):
    """What a caller sends: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RevisionTold(BaseModel):
    """A revision without its document."""

    number: int
    hash: str
    source: str = Field(description="Where it came from: file, central, api, cli, undo, revert.")
    reason: str
    at: Moment
    state: str
    previous: int = Field(description="The revision that an undo returns to; 0 for none.")


def base_of(
    here: Here,
    if_match: Annotated[
        str, Header(max_length=100, description='The revision a change is made for: `"7"`.')
    ] = "",
) -> int:
    """Read the revision that a change is made for."""
    if not if_match:
        detail = "Send the revision that this is made for, as If-Match; GET tells it as ETag."
        raise ApiProblem("revision_needed", detail)
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise ApiProblem("revision_needed", 'If-Match is one revision in quotes, such as "7".')
    base = int(found[1])
    current = here.twin.current.number
    if base != current:
        # Also one that is yet to come: what is made now of this document is not made of that one.
        raise Conflict(base, current)
    return base


Base = Annotated[int, Depends(base_of)]


def told(head: Head) -> RevisionTold:
    """Tell of a revision."""
    return RevisionTold(
        number=head.number,
        hash=head.hash.hex(),
        source=head.source,
        reason=head.reason,
        at=moment(head.at_us),
        state=head.state.value,
        previous=head.previous,
    )


def tag(response: Response, here: Context) -> None:
    """Tell the revision in force as ETag."""
    response.headers["ETag"] = f'"{here.twin.current.number}"'


async def change(
    here: Context, caller: Caller, document: dict[str, Any], base: int, reason: str
) -> Revision:
    """Put a document in force for a caller. Raises `ConfigRefused` or `Conflict`."""
    return await here.twin.apply(document, source=caller.source, reason=reason, base=base)
