"""Any path of the human API, asked by schemathesis: no server error, and answers as described."""

from collections.abc import Callable
from typing import Any

import anyio.to_thread
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.servers.central_process import Central
from tests.servers.link_peer import now_us
from tests.servers.seed import seed, seed_gap

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

EXAMPLES = 40
GUARDED = 8
"""Fewer operations than this and the schema lost some."""


def ask_everything(base: str, key: str) -> int:
    """Call every operation with generated input; gives how many operations there were."""
    schema = schemathesis.openapi.from_url(f"{base}/api/openapi.json")
    count = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path == "/readyz":
            continue  # its 503 is an answer, not an error
        count += 1
        _check(operation, key)
    return count


def _check(operation: Any, key: str) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        case.path_parameters = dict.fromkeys(case.path_parameters or {}, "demo")
        case.call_and_validate(
            headers={"Authorization": f"Bearer {key}"},
            # Rules between fields (from before to, buckets in a span) no schema can say.
            excluded_checks=[positive_data_acceptance],
        )

    run: Callable[[], None] = check
    run()


async def test_no_input_breaks_the_api(central: Central) -> None:
    ids = await seed(central, {"a/x": [(now_us(), 1.0, 0)], "0": [(now_us(), 2.0, 0)]})
    await seed_gap(central, [ids["a/x"]], now_us() - 2_000_000, now_us())
    key = await central.key()
    count = await anyio.to_thread.run_sync(ask_everything, central.url, key)
    assert count >= GUARDED
