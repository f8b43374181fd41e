"""Drivers with the schemas of their options, and templates of devices."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from edge import schemas
from edge.api.access import VIEWER
from edge.api.context import Here
from edge.api.problems import ApiProblem
from edge.api.revisions import Given
from protocols import registry, templates

router = APIRouter(prefix="/api/v1", tags=["drivers and templates"], dependencies=[VIEWER])

Name = Annotated[str, Path(max_length=80)]
Small = Annotated[str, Field(max_length=1_000)]


class DriverTold(BaseModel):
    """A driver; forms are drawn from its schemas."""

    name: str
    title: str
    options: dict[str, Any] = Field(description="JSON schema of a device's options.")
    source: dict[str, Any] = Field(description="JSON schema of a point's `source`.")


class DriverList(BaseModel):
    """The drivers that are installed."""

    drivers: list[str]


class ParameterTold(BaseModel):
    """What one copy of a device needs to be told."""

    name: str
    description: str
    default: str


class TemplateTold(BaseModel):
    """A kind of device."""

    id: str
    title: str
    kind: str
    driver: str
    facts: str
    notes: str
    parameters: list[ParameterTold]
    points: int


class TemplateList(BaseModel):
    """The kinds of devices that are known."""

    templates: list[TemplateTold]


class CopyGiven(Given):
    """One copy of a kind of device."""

    name: str = Field(min_length=1, max_length=80, description="Its name; its keys begin with it.")
    options: dict[str, Any] = Field({}, description="What reaches it: host, unit, …")
    parameters: dict[str, Small] = Field({}, max_length=50)


class CopyTold(BaseModel):
    """The entry of `devices` for it; nothing was changed."""

    section: dict[str, Any]


@router.get("/drivers")
async def list_drivers() -> DriverList:
    """List the drivers."""
    return DriverList(drivers=sorted(registry.names()))


@router.get("/drivers/{name}")
async def one_driver(name: Name, here: Here) -> DriverTold:
    """Describe a driver; the first question may take some seconds."""
    if name not in registry.names():
        raise ApiProblem("not_found", f"There is no driver {name!r}.")
    known = await schemas.all_schemas(here.twin.secrets.store)
    if name not in known:
        raise ApiProblem("options_wrong", f"The driver {name} cannot be loaded; see the log.")
    return DriverTold(name=name, **known[name])


@router.get("/templates")
def list_templates() -> TemplateList:
    """List the kinds of devices."""
    found = templates.built_in().items()
    return TemplateList(templates=[_told(id_, one) for id_, one in found])


@router.get("/templates/{name}")
def one_template(name: Name) -> TemplateTold:
    """Give a kind of device."""
    return _told(name, _found(name))


@router.post("/templates/{name}/device")
def copy_template(name: Name, given: CopyGiven) -> CopyTold:
    """Make the entry of one copy, to be looked at, tested and then put."""
    section = _found(name).device(given.name, given.options, given.parameters)
    return CopyTold(section=section)


def _found(name: str) -> templates.Template:
    found = templates.built_in().get(name)
    if found is None:
        raise ApiProblem("not_found", f"There is no template {name!r}.")
    return found


def _told(id_: str, one: templates.Template) -> TemplateTold:
    parameters = [
        ParameterTold(name=name, description=each.description, default=each.default)
        for name, each in one.parameters.items()
    ]
    return TemplateTold(
        id=id_,
        title=one.title,
        kind=one.kind,
        driver=one.driver,
        facts=one.facts,
        notes=one.notes,
        parameters=parameters,
        points=len(one.points),
    )
