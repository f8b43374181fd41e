"""The database goes away and comes back: batches are put off, told why, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.exceptions import InvalidStatus

from central.storage.database import Pool, open_pool
from central.storage.embedded import EmbeddedPostgres
from shared.link import NeedPointSet, Receipt, RetryAfter
from tests.servers.central_process import Central, until
from tests.servers.link_peer import link_peer, now_us, point_set_frame, points, readings_batch

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

SET = points("ahu1/supply_temp")


@asynccontextmanager
async def outage(server: EmbeddedPostgres, central: Central) -> AsyncIterator[None]:
    """Let nobody into this test's database, and throw out who is in."""
    name = central.database.service_dsn.rsplit("/", 1)[1].split("?")[0]
    async with open_pool(server.superuser_dsn(), size=1) as superuser:
        await _limit(superuser, name, 0)
        try:
            yield
        finally:
            await _limit(superuser, name, -1)


async def _limit(superuser: Pool, name: str, connections: int) -> None:
    await superuser.fetchval(f'ALTER DATABASE "{name}" CONNECTION LIMIT {connections}')
    await superuser.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1", name
    )


async def test_a_batch_is_put_off_in_an_outage_and_taken_after_it(
    central: Central, postgres_server: EmbeddedPostgres
) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(readings_batch(SET, 0, [(0, now_us(), 1.0, 0)]))
        await peer.await_frame(NeedPointSet)
        await peer.send(point_set_frame(SET))
        await peer.await_frame(Receipt)
        batch = readings_batch(SET, 1, [(0, now_us(), 2.0, 0)])
        async with outage(postgres_server, central):
            await peer.send(batch)
            put_off = await peer.await_frame(RetryAfter)
            assert put_off.seq == 1
            assert put_off.reason in ("log_away", "database_away")
            assert 0 < put_off.seconds <= 60

        async def is_settled() -> bool:
            await peer.send(batch)
            frame = await peer.next()
            return isinstance(frame, Receipt) and any(
                first <= 1 <= last for each in frame.settled for first, last in each.seqs
            )

        await until(is_settled, "the batch is settled after the outage", 30)


async def test_in_an_outage_the_api_says_so_and_the_link_asks_to_come_later(
    central: Central, postgres_server: EmbeddedPostgres
) -> None:
    gateway = await central.gateway()
    async with central.client() as client:
        async with outage(postgres_server, central):
            answer = await client.get("/latest")
            assert answer.status_code == 503
            assert answer.json()["code"] == "database_away"
            assert "retry-after" in answer.headers
            ready = await client.get(f"{central.url}/readyz")
            assert ready.status_code == 503
            assert ready.json()["dependencies"]["database"]["ready"] is False
            assert (await client.get(f"{central.url}/healthz")).status_code == 200
            with pytest.raises(InvalidStatus) as refused:
                async with link_peer(central.link_port, gateway.context()):
                    pass
            assert refused.value.response.status_code == 503

        async def is_ready() -> bool:
            return (await client.get(f"{central.url}/readyz")).status_code == 200

        await until(is_ready, "ready again")
        assert (await client.get("/latest")).status_code == 200
