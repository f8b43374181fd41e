"""The modules' READMEs name every setting and every metric, and none that is not there."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from central.egress.metrics import EgressMetrics
from central.ingress.metrics import IngressMetrics
from central.settings import Settings, variable

CENTRAL = Path(__file__).parents[2] / "central"
TEXTS = {
    name: (CENTRAL / name / "README.md").read_text(encoding="utf-8")
    for name in ("ingress", "egress", "application")
}


def metrics_of(make: type[IngressMetrics] | type[EgressMetrics]) -> set[str]:
    registry = CollectorRegistry()
    make(registry)
    return {
        f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()
    }


def test_every_setting_is_documented_and_no_other() -> None:
    named = set(re.findall(r"SPINE_[A-Z_]+", " ".join(TEXTS.values())))
    assert named == {variable(name) for name in Settings.model_fields}


def test_every_metric_is_documented_and_no_other() -> None:
    for name, make in (("ingress", IngressMetrics), ("egress", EgressMetrics)):
        told = set(re.findall(rf"`(spine_{name}_[a-z_]+)", TEXTS[name]))
        assert told == metrics_of(make)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
