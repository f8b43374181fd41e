"""Latest, history, points, gaps and gateways of a real central."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from shared.clock import from_datetime
from shared.quality import Flag, Reason, bad, quality, uncertain
from tests.servers.central_process import Central
from tests.servers.seed import seed, seed_gap

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

NAN = float("nan")
T0 = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
FORCED = quality(0, Reason.NONE, Flag.FORCED)  # type: ignore[arg-type]  # class good


def at(seconds: float) -> int:
    return from_datetime(T0 + timedelta(seconds=seconds))


def iso(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
async def client(central: Central) -> AsyncIterator[httpx2.AsyncClient]:
    async with central.client() as made:
        yield made


async def asked(client: httpx2.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_latest_gives_the_newest_reading_with_its_quality(
    central: Central, client: httpx2.AsyncClient
) -> None:
    await seed(
        central,
        {
            "ahu1/supply_temp": [(at(0), 20.0, 0), (at(1), 21.0, FORCED)],
            "meter1/power": [(at(2), NAN, bad(Reason.LINK_DOWN))],
        },
        {"ahu1/mode": (at(3), "heating")},
    )
    readings = {each["key"]: each for each in (await asked(client, "/latest"))["readings"]}
    supply, power, mode = (
        readings[key] for key in ("ahu1/supply_temp", "meter1/power", "ahu1/mode")
    )
    assert (supply["value"], supply["unit"]) == (21.0, "°C")
    assert supply["quality"] == {"class": "good", "reason": None, "flags": ["forced"]}
    assert supply["observed_at"] == "2026-03-01T12:00:01Z"
    assert power["value"] is None
    assert power["quality"] == {"class": "bad", "reason": "link_down", "flags": []}
    assert (mode["value"], mode["text"]) == (None, "heating")


async def test_latest_by_key_prefix_and_page(central: Central, client: httpx2.AsyncClient) -> None:
    await seed(central, {f"vav{n}/temp": [(at(n), float(n), 0)] for n in range(5)})
    one = await asked(client, "/latest", key="vav3/temp")
    assert [each["value"] for each in one["readings"]] == [3.0]
    some = await asked(client, "/latest", prefix="vav1/")
    assert [each["key"] for each in some["readings"]] == ["vav1/temp"]
    keys, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = await asked(client, "/latest", **query)
        keys += [each["key"] for each in page["readings"]]
        after = page["next_after"]
        if after is None:
            break
    assert keys == [f"vav{n}/temp" for n in range(5)]


async def test_raw_history_is_half_open_and_bit_equal(
    central: Central, client: httpx2.AsyncClient
) -> None:
    values = [0.1, 1 / 3, -0.0, 1e-300, 21.499999999999996]
    await seed(central, {"a/x": [(at(n), value, 0) for n, value in enumerate(values)]})
    told = await asked(client, "/history", key="a/x", **{"from": iso(1), "to": iso(4)})
    readings = told["points"][0]["readings"]
    assert [each["value"] for each in readings] == values[1:4]
    assert readings[0]["observed_at"] == "2026-03-01T12:00:01Z"
    assert told["next_cursor"] is None
    assert told["gaps"] is None


async def test_raw_history_of_several_points_is_paged_without_loss(
    central: Central, client: httpx2.AsyncClient
) -> None:
    rows = {f"p{n}/x": [(at(s), n * 100.0 + s, 0) for s in range(7)] for n in range(3)}
    await seed(central, rows)
    found: dict[str, list[float]] = {key: [] for key in rows}
    keys, cursor, pages = list(rows), None, 0
    while True:
        query = [("key", key) for key in keys] + [("from", iso(0)), ("to", iso(60)), ("limit", "4")]
        answer = await client.get(
            "/history", params=[*query, *([("cursor", cursor)] if cursor else [])]
        )
        told = answer.json()
        for point in told["points"]:
            found[point["key"]] += [each["value"] for each in point["readings"]]
        assert sum(len(point["readings"]) for point in told["points"]) <= 4
        cursor, pages = told["next_cursor"], pages + 1
        if cursor is None:
            break
    assert found == {key: [row[1] for row in some] for key, some in rows.items()}
    assert pages == 6


async def test_buckets_count_all_and_compute_with_what_is_usable(
    central: Central, client: httpx2.AsyncClient
) -> None:
    rows = [
        (at(0), 10.0, 0),
        (at(20), 30.0, uncertain(Reason.STALE)),
        (at(40), NAN, bad(Reason.TIMEOUT)),
        (at(50), 99.0, bad(Reason.OUT_OF_RANGE)),
        (at(60), 5.0, 0),
        (at(180), NAN, bad(Reason.LINK_DOWN)),
    ]
    await seed(central, {"a/x": rows})
    told = await asked(
        client, "/history", key="a/x", bucket="PT1M", **{"from": iso(0), "to": iso(240)}
    )
    buckets = told["points"][0]["buckets"]
    assert [each["from"] for each in buckets] == [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:01:00Z",
        "2026-03-01T12:03:00Z",
    ]
    first = buckets[0]
    assert (first["count"], first["good_count"]) == (4, 1)
    numbers = [first[name] for name in ("avg", "min", "max", "sum", "first", "last")]
    assert numbers == [20.0, 10.0, 30.0, 40.0, 10.0, 30.0]
    assert (buckets[2]["count"], buckets[2]["avg"], buckets[2]["last"]) == (1, None, None)


async def test_infinite_and_huge_values_are_told_in_json(
    central: Central, client: httpx2.AsyncClient
) -> None:
    await seed(central, {"a/x": [(at(0), float("inf"), 0), (at(1), 1e308, 0), (at(2), 1e308, 0)]})
    raw = await asked(client, "/history", key="a/x", **{"from": iso(0), "to": iso(9)})
    assert [each["value"] for each in raw["points"][0]["readings"]] == [None, 1e308, 1e308]
    query = {"key": "a/x", "bucket": "PT1M", "from": iso(0), "to": iso(9)}
    answer = await client.get("/history", params=query)
    assert answer.status_code == 422
    assert answer.json()["code"] == "out_of_range"


async def test_gaps_of_the_points_asked_for_come_with_history(
    central: Central, client: httpx2.AsyncClient
) -> None:
    ids = await seed(central, {"a/x": [(at(0), 1.0, 0)], "b/x": [(at(0), 1.0, 0)]})
    await seed_gap(central, [ids["a/x"]], at(10), at(20))
    await seed_gap(central, [ids["b/x"]], at(10), at(20), lost=12)
    span = {"from": iso(0), "to": iso(60)}
    told = await asked(client, "/history", key="a/x", gaps="true", **span)
    [gap] = told["gaps"]
    assert (gap["points"], gap["cause"], gap["missed"]) == (["a/x"], "missed", 3)
    assert (gap["from"], gap["to"]) == ("2026-03-01T12:00:10Z", "2026-03-01T12:00:20Z")
    outside = await asked(
        client, "/history", key="a/x", gaps="true", **{"from": iso(20), "to": iso(60)}
    )
    assert outside["gaps"] == []
    everything = await asked(client, "/gaps", **span)
    assert len(everything["gaps"]) == 2
    assert everything["is_complete"] is True
    assert (await asked(client, "/gaps", limit=1, **span))["is_complete"] is False


async def test_gateways_tell_their_ledger(central: Central, client: httpx2.AsyncClient) -> None:
    ids = await seed(central, {"a/x": [(at(0), 1.0, 0), (at(1), 2.0, 0)]})
    await seed_gap(central, [ids["a/x"]], at(10), at(20), lost=12)
    [gateway] = (await asked(client, "/gateways"))["gateways"]
    assert gateway["ledger"] == {
        "delivered": 2,
        "collapsed": 0,
        "quarantined": 0,
        "gaps": 1,
        "lost": 12,
        "missed": 0,
    }


async def test_points_are_listed_by_key(central: Central, client: httpx2.AsyncClient) -> None:
    await seed(central, {"b/x": [(at(0), 1.0, 0)], "a/x": [(at(0), 1.0, 0)]})
    told = await asked(client, "/points")
    assert [point["key"] for point in told["points"]] == ["a/x", "b/x"]
    assert {point["class"] for point in told["points"]} == {"normal"}


REFUSED: list[tuple[str, dict[str, str], int, str]] = [
    ("/history", {"key": "no/such"}, 404, "unknown_point"),
    ("/history", {}, 422, "invalid_request"),
    ("/history", {"key": "a b"}, 422, "invalid_request"),
    ("/history", {"key": "a/x", "bucket": "P1Y"}, 422, "invalid_request"),
    ("/history", {"key": "a/x", "bucket": "PT"}, 422, "bad_bucket"),
    ("/history", {"key": "a/x", "bucket": "PT0S"}, 422, "bad_bucket"),
    (
        "/history",
        {"key": "a/x", "bucket": "PT1S", "from": "2020-01-01T00:00:00Z"},
        422,
        "too_many_buckets",
    ),
    ("/history", {"key": "a/x", "from": "2026-01-01T00:00:00"}, 422, "invalid_request"),
    ("/history", {"key": "a/x", "from": "0001-01-01T00:00:00+14:00"}, 422, "bad_span"),
    ("/history", {"key": "a/x", "from": iso(9), "to": iso(1)}, 422, "bad_span"),
    ("/history", {"key": "a/x", "cursor": "rubbish"}, 400, "bad_cursor"),
    ("/history", {"key": "a/x", "cursor": "AAAAAQAAAAAAAAAA"}, 400, "bad_cursor"),
    ("/history", {"key": "a/x", "limit": "100001"}, 422, "invalid_request"),
    ("/history", {"key": "a/x", "unknown": "1"}, 422, "unknown_parameter"),
    ("/latest", {"after": "\x00"}, 422, "invalid_request"),
    ("/latest", {"key": "no/such"}, 404, "unknown_point"),
    ("/gaps", {"limit": "0"}, 422, "invalid_request"),
]


@pytest.mark.parametrize(("path", "query", "status", "code"), REFUSED)
async def test_wrong_questions_are_answered_with_a_problem(
    central: Central,
    client: httpx2.AsyncClient,
    path: str,
    query: dict[str, str],
    status: int,
    code: str,
) -> None:
    await seed(central, {"a/x": [(at(0), 1.0, 0)], "b/x": [(at(0), 1.0, 0)]})
    if query.get("cursor", "").startswith("AAAA"):
        query = query | {"key": "b/x"}
    answer = await client.get(path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
