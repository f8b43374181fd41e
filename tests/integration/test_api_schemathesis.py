"""Bad input at every door of the local API: whatever comes, the answer is good or a clear problem.

Inputs are made by schemathesis from the API's own description, each route alone and then along its
links. `SPINE_API_EXAMPLES` makes the search longer; the seed is fixed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import APIRouter
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core.result import Ok
from schemathesis.generation.stateful.state_machine import APIStateMachine
from schemathesis.schemas import BaseSchema

from edge.api import app as apps
from edge.api.access import VIEWER
from edge.api.problems import CODES, MEDIA_TYPE
from tests.integration.api_kit import API, ServedGateway, served
from tests.servers.ports import ports_in_a_row

SEED = 11
EXAMPLES = int(os.environ.get("SPINE_API_EXAMPLES", "4"))
RUNS = max(3, EXAMPLES)
SKIPPED = ("/session", "/sessions/{number}", "/passwords/{role}", "/certificates/renew", "/live")
"""They end the session that asks, or ask a central that is not there."""

SEARCH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Door:
    """A gateway that runs in a thread of its own, and a way in that is renewed when it closes."""

    portal: BlockingPortal
    gateway: ServedGateway
    cookie: str = ""

    def sign_in(self) -> None:
        made = self.portal.call(self._linked)
        entered = requests.post(f"{self.gateway.url}{API}/session/link", json=made, timeout=30)
        self.cookie = f"spine_edge={entered.cookies['spine_edge']}"

    async def _linked(self) -> dict[str, str]:
        made = await self.gateway.local.post(f"{API}/links", json={})
        return {"token": made.json()["token"]}

    def call(self, case: Any) -> Any:
        for _ in range(2):
            response = case.call(headers={"Cookie": self.cookie}, timeout=60)
            if response.status_code != 401 or response.json()["code"] != "not_signed_in":
                break
            self.sign_in()
        return response

    def schema(self) -> BaseSchema:
        url = f"{self.gateway.url}{API}/openapi.json"
        loaded: BaseSchema = schemathesis.openapi.from_url(url, timeout=60)
        for path in SKIPPED:
            loaded = loaded.exclude(path=f"{API}{path}")
        return loaded


def judge(response: Any) -> None:
    """Accept good answers, and problems with a code that says what is wrong."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"][0] == MEDIA_TYPE, response.text
    problem = response.json()
    assert problem["code"] in CODES, problem
    assert problem["code"] != "defect", problem
    assert problem["status"] == response.status_code
    assert problem["detail"]
    assert "Traceback" not in response.text


def document() -> dict[str, Any]:
    point = {"key": "meter/power", "unit": "W", "source": {"register": 0}}
    options = {"host": "127.0.0.1", "port": ports_in_a_row(1)}
    return {
        "devices": [{"name": "meter", "driver": "modbus", "options": options, "points": [point]}]
    }


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("api")) as found:
        yield found


@contextmanager
def opened(folder: Path) -> Iterator[Door]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(served(folder, document())) as gateway,
    ):
        found = Door(portal, gateway)
        found.sign_in()
        yield found


def operations(schema: BaseSchema) -> Sequence[Any]:
    return [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]


def tried(door: Door, operation: Any) -> int:
    """Send one route what its description allows, and what it does not."""
    count = 0

    @seed(SEED)
    @SEARCH
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        nonlocal count
        count += 1
        judge(door.call(case))

    check()
    return count


def test_every_route_answers_anything_with_good_or_a_clear_problem(door: Door) -> None:
    found = operations(door.schema())
    assert len(found) >= 25
    for operation in found:
        assert tried(door, operation) >= 1
    assert (door.portal.call(door.gateway.local.get, f"{API}/gateway")).status_code == 200


def test_walks_along_the_links_end_in_good_or_a_clear_problem(door: Door) -> None:
    steps = [label for nth in range(RUNS) for label in walked(door, SEED + nth)]
    assert len(steps) >= RUNS


def walked(door: Door, number: int) -> list[str]:
    """Go one way along the links; a machine each, for they learn from what is answered."""
    base = door.schema().as_state_machine()
    steps: list[str] = []

    class Walk(base):  # type: ignore[misc, valid-type]
        def call(self, case: Any, **_: Any) -> Any:
            steps.append(case.operation.label)
            return door.call(case)

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            judge(response)

    assert issubclass(Walk, APIStateMachine)
    seed(number)(Walk.TestCase)
    Walk.run(settings=settings(SEARCH, max_examples=1, stateful_step_count=10))
    return steps


def test_a_route_that_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = APIRouter(dependencies=[VIEWER])

    @planted.get("/api/v1/planted")
    def fails(number: int = 0) -> int:
        return 100 // number

    routers = (*apps.ROUTERS, planted)
    monkeypatch.setattr("edge.api.listener.api_app", lambda here: apps.api_app(here, routers))
    monkeypatch.setattr(
        "edge.api.listener.guarded",
        lambda *given, **more: apps.guarded(*given, **more, routers=routers),
    )
    with opened(tmp_path) as door:
        (operation,) = [one for one in operations(door.schema()) if one.path == "/api/v1/planted"]
        with pytest.raises(AssertionError, match="defect"):
            tried(door, operation)
