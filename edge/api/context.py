"""What the routes of the local API are given: the parts, and what belongs to this machine."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from edge.api.door import Door
from edge.enrolment import Identity
from edge.field.tools import FieldTools
from edge.parts import Parts
from edge.settings import GatewayConfig
from edge.twin import Twin
from shared.errors import SpineError


@dataclass(slots=True)
class Context:
    """What every route may ask."""

    parts: Parts
    config: GatewayConfig
    identity: Identity
    door: Door
    tools: FieldTools
    dry_runs: dict[str, Any] = field(default_factory=dict)
    """Imports that were compared and not applied yet; see `edge.api.imports`."""

    @property
    def twin(self) -> Twin:
        """The configuration."""
        return self.parts.twin

    def hide_secrets(self) -> None:
        """Keep every secret there is out of the log entries that people see from now on."""
        with suppress(SpineError):
            self.parts.logs.hide(self.twin.secrets.everything().values())


def context_of(connection: HTTPConnection) -> Context:
    """Find the context of the application that serves a connection."""
    context: Context = connection.app.state.context
    return context


Here = Annotated[Context, Depends(context_of)]
