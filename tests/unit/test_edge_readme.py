"""The gateway's README names every metric it has, and none that is not there."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from edge.ledger import Dues, Ledger
from edge.metrics import GatewayMetrics
from edge.room import Room

README = Path(__file__).parents[2] / "edge/README.md"


def test_every_metric_is_documented_and_no_other() -> None:
    ledger = dict.fromkeys([*Ledger.__dataclass_fields__, "held"], 0)
    parts: Any = SimpleNamespace(
        ledger=lambda: ledger,
        intake=SimpleNamespace(dues=Dues()),
        collector=SimpleNamespace(tasks=[]),
        uplink=SimpleNamespace(is_connected=True, sent_bytes=1, received_bytes=2),
        commands=None,
    )
    metrics = GatewayMetrics(cast(Any, parts))
    metrics.room = Room(1, 2.0, 3.0, 4.0)
    there = {
        f"{one.name}_total" if one.type == "counter" else one.name for one in metrics.collect()
    }
    assert set(re.findall(r"`(spine_edge_[a-z_]+)", README.read_text("utf-8"))) == there
