"""The modules' READMEs name every setting and every metric, and none that is not there."""

import re
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from central.analytics.metrics import FlowMetrics
from central.application.reach import Reach
from central.egress.metrics import EgressMetrics
from central.ingress.metrics import IngressMetrics
from central.messaging.metrics import MessagingMetrics
from central.settings import Settings, variable

CENTRAL = Path(__file__).parents[2] / "central"
TEXTS = {
    name: (CENTRAL / name / "README.md").read_text(encoding="utf-8")
    for name in ("ingress", "messaging", "analytics", "egress", "application")
}
METRICS: dict[str, Callable[[CollectorRegistry], object]] = {
    "ingress": IngressMetrics,
    "messaging": MessagingMetrics,
    "analytics": FlowMetrics,
    "egress": EgressMetrics,
    "application": Reach,
}


def metrics_of(make: Callable[[CollectorRegistry], object]) -> set[str]:
    registry = CollectorRegistry()
    make(registry)
    return {
        f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()
    }


def test_every_setting_is_documented_and_no_other() -> None:
    named = set(re.findall(r"SPINE_[A-Z_]+", " ".join(TEXTS.values())))
    assert named == {variable(name) for name in Settings.model_fields}


def test_every_metric_is_documented_and_no_other() -> None:
    for name, make in METRICS.items():
        told = set(re.findall(rf"`(spine_{name}_[a-z_]+)", TEXTS[name]))
        assert told == metrics_of(make)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
