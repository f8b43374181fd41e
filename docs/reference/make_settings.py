"""Writes docs/reference/settings.md from the models that read the settings.

`python docs/reference/make_settings.py` writes it anew; a test holds it to the models.
"""

import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs/reference/settings.md"


def page() -> str:
    """Write the whole page."""
    sys.path.insert(0, str(REPOSITORY))
    from central.settings import Settings, variable  # noqa: PLC0415 - after the path is set
    from edge import settings as edge  # noqa: PLC0415 - after the path is set
    from edge import writable  # noqa: PLC0415 - after the path is set
    from protocols import registry  # noqa: PLC0415 - after the path is set

    parts = [
        "# Settings",
        "This page is made from the code by `python docs/reference/make_settings.py`.",
        "## Gateway: `gateway.yaml`",
        "`python -m edge check --config gateway.yaml` tells every mistake in it, with its line.",
    ]
    sections = {
        "gateway": edge.GatewaySection,
        "gateway.health": edge.HealthSettings,
        "gateway.api": edge.ApiSettings,
        "gateway.log": edge.LogSettings,
        "gateway.diagnostics": edge.DiagnosticsSettings,
        "gateway.home_assistant": edge.HomeAssistantSection,
        "central": edge.CentralSection,
        "outbox": edge.OutboxSection,
        "devices[]": edge.DeviceSection,
        "devices[].points[]": edge.PointSection,
        "devices[].points[].report": edge.ReportSection,
        "devices[].points[].aggregate": edge.AggregateSection,
        "devices[].points[].write": writable.WriteSection,
        "devices[].points[].write.interlock[]": writable.InterlockSection,
    }
    for name, model in sections.items():
        parts += [f"### `{name}`", table(model)]
    for name in registry.names():
        driver = registry.find(name)
        parts += [f"### Driver `{name}`: `devices[].options`", table(driver.device_options)]
        parts += [f"### Driver `{name}`: `devices[].points[].source`", table(driver.point_options)]
    rows = table(Settings, variable)
    parts += ["## Central: environment variables", "Flags of the same name go first.", rows]
    return "\n\n".join(parts) + "\n"


def table(model: type[BaseModel], shown: Any = str) -> str:
    """Write the settings of one model as a table."""
    return "\n".join(["| setting | default | what it is |", "|---|---|---|", *_rows(model, shown)])


def _rows(model: type[BaseModel], shown: Any) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        if not field.description:
            raise ValueError(f"{model.__name__}.{name} has no description")
        text = " ".join(field.description.split()).replace("|", "\\|")
        yield f"| `{shown(field.alias or name)}` | {_default(field)} | {text} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", (), []):
        return "none"
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, str | Path):
        return f"`{plain}`"
    return f"`{json.dumps(plain, default=str)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
