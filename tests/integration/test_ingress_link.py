"""The link against a real central: what is sent arrives once, and only who may send is heard."""

import secrets

import pytest
from websockets.exceptions import InvalidStatus

from central.storage.database import project_transaction
from shared.link import (
    MAX_BODY_BYTES,
    Batch,
    NeedPointSet,
    Outcome,
    Pending,
    Receipt,
    RefusedFrame,
    Reported,
    RetryAfter,
    Unsupported,
    pack,
)
from shared.model import Kind, PointSet
from tests.servers.central_process import Central, until
from tests.servers.link_peer import (
    LinkPeer,
    events_batch,
    link_peer,
    make_hello,
    now_us,
    point_set_frame,
    points,
    readings_batch,
)

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

SET = points("ahu1/supply_temp", "ahu1/return_temp", "meter1/power")


async def send_set(peer: LinkPeer, point_set: PointSet = SET) -> None:
    need = await peer.await_frame(NeedPointSet)
    assert need.hash == point_set.hash
    await peer.send(point_set_frame(point_set))


async def settled_of(peer: LinkPeer, epoch: int, seq: int) -> Receipt:
    while True:
        receipt = await peer.await_frame(Receipt)
        for each in receipt.settled:
            if each.epoch == epoch and any(a <= seq <= b for a, b in each.seqs):
                return receipt


async def test_a_batch_is_accepted_then_settled_and_stored(central: Central) -> None:
    gateway = await central.gateway()
    at = now_us()
    async with link_peer(central.link_port, gateway.context()) as peer:
        welcome = await peer.hello()
        assert welcome.settled == ()
        await peer.send(readings_batch(SET, 0, [(0, at, 21.5, 0), (2, at, float("nan"), 0x2001)]))
        await send_set(peer)
        accepted = await peer.await_frame(Receipt)
        assert accepted.accepted[0].seqs == ((0, 0),)
        receipt = await settled_of(peer, 7, 0)
    assert receipt.settled[0].delivered == 2
    async with project_transaction(central.database.service, "demo") as connection:
        rows = await connection.fetch("SELECT value, quality FROM readings ORDER BY point_id")
    assert [tuple(row) for row in rows] == [(21.5, 0), (None, 0x2001)]


async def test_a_known_point_set_is_not_asked_for_again(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        for seq in range(3):
            await peer.send(readings_batch(SET, seq, [(0, now_us(), 1.0, 0)]))
        await send_set(peer)
        await settled_of(peer, 7, 2)
        assert sum(isinstance(frame, NeedPointSet) for frame in peer.seen) == 1
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(readings_batch(SET, 3, [(0, now_us(), 1.0, 0)]))
        await settled_of(peer, 7, 3)
        assert not any(isinstance(frame, NeedPointSet) for frame in peer.seen)


async def test_a_point_set_whose_question_was_lost_is_asked_for_again(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        batch = readings_batch(SET, 0, [(0, now_us(), 20.5, 0)])
        await peer.send(batch)
        await peer.await_frame(NeedPointSet)
        await peer.send(batch)
        await send_set(peer)
        receipt = await settled_of(peer, 7, 0)
    assert receipt.settled[0].delivered == 1


async def test_welcome_tells_what_is_settled_and_a_resent_batch_is_told_again(
    central: Central,
) -> None:
    gateway = await central.gateway()
    batch = readings_batch(SET, 4, [(0, now_us(), 1.0, 0), (1, now_us(), 2.0, 0)])
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(batch)
        await send_set(peer)
        await settled_of(peer, 7, 4)
    pending = [Pending(epoch=7, seqs=((4, 5),)), Pending(epoch=9, seqs=((0, 0),))]
    async with link_peer(central.link_port, gateway.context()) as peer:
        welcome = await peer.hello(pending)
        told = {each.epoch: each for each in welcome.settled}
        assert told[7].seqs == ((4, 4),)
        assert (told[7].delivered, told[9].seqs) == (2, ())
        await peer.send(batch)
        again = await settled_of(peer, 7, 4)
        assert again.settled[0].delivered == 2
        assert not any(isinstance(f, Receipt) and f.accepted for f in peer.seen)


async def test_a_batch_of_the_past_takes_the_backfill_lane_and_arrives(central: Central) -> None:
    gateway = await central.gateway()
    old = now_us() - 3_600 * 1_000_000
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(readings_batch(SET, 0, [(0, old, 1.0, 0), (0, now_us(), 2.0, 0)]))
        await send_set(peer)
        await settled_of(peer, 7, 0)
    metrics = central.running.platform.registry
    assert metrics.get_sample_value("spine_ingress_readings_total", {"lane": "backfill"}) == 2
    assert metrics.get_sample_value("spine_ingress_readings_total", {"lane": "live"}) is None


BROKEN: list[tuple[str, str]] = [
    ("truncated", "cut"),
    ("not_a_batch", "noise"),
    ("unknown_version", "version"),
    ("too_large", "huge"),
    ("count_mismatch", "count"),
    ("bad_series", "series"),
    ("unknown_kind", "kind"),
]


def broken(how: str) -> Batch:
    good = readings_batch(SET, 1, [(0, now_us(), 1.0, 0), (1, now_us(), 2.0, 0)])
    wide = readings_batch(points("a", "b", "c", "d"), 1, [(3, now_us(), 1.0, 0)])
    version = good.body[:4] + bytes([good.body[4] + 1]) + good.body[5:]
    changes: dict[str, dict[str, object]] = {
        "cut": {"body": good.body[:-3]},
        "noise": {"body": b"no batch at all, just some text of a broken sender"},
        "version": {"body": version},
        "huge": {"body": bytes(MAX_BODY_BYTES + 1)},
        "count": {"count": 3},
        "series": {"body": wide.body, "count": 1},
        "kind": {"kind": Kind.ROLLUPS},
    }
    return good.model_copy(update=changes[how])


@pytest.mark.parametrize(("code", "how"), BROKEN)
async def test_a_broken_batch_is_quarantined_with_its_reason_and_the_next_flows(
    central: Central, code: str, how: str
) -> None:
    gateway = await central.gateway()
    bad = broken(how)
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(bad)
        await send_set(peer)
        refused = await peer.await_frame(RefusedFrame)
        assert (refused.seq, refused.problem.code) == (1, code)
        receipt = await settled_of(peer, 7, 1)
        readings = bad.count if bad.kind is Kind.READINGS else 0
        assert receipt.settled[0].quarantined == readings
        await peer.send(readings_batch(SET, 2, [(0, now_us(), 1.0, 0)]))
        await settled_of(peer, 7, 2)
    async with project_transaction(central.database.service, "demo") as connection:
        row = await connection.fetchrow("SELECT code, body FROM quarantine")
    assert (row["code"], bytes(row["body"])) == (code, bad.body)


async def test_a_gap_event_names_points_and_settles(central: Central) -> None:
    gateway = await central.gateway()
    at = now_us()
    gap = {
        "event": "gap",
        "id": secrets.token_bytes(16),
        "cause": "missed",
        "reason": "restart",
        "series": [[0, 1]],
        "from_us": at - 5_000_000,
        "to_us": at,
        "count": 0,
        "missed": 4,
        "voided": [],
    }
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(events_batch(SET, 0, [gap]))
        await send_set(peer)
        await settled_of(peer, 7, 0)
    async with central.client() as client:
        [told] = (await client.get("/gaps")).json()["gaps"]
    assert told["points"] == ["ahu1/return_temp", "ahu1/supply_temp"]
    assert (told["gateway"], told["reason"], told["missed"]) == ("gw1", "restart", 4)


async def test_an_event_that_names_points_outside_the_set_is_refused(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        event = {"event": "note", "series": [[0, 9]]}
        await peer.send(events_batch(SET, 0, [event]))
        await send_set(peer)
        assert (await peer.await_frame(RefusedFrame)).problem.code == "bad_series"


async def test_frames_not_served_are_answered_unsupported(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.send(Reported(revision=0, sections={}))
        assert (await peer.await_frame(Unsupported)).frame == "reported"
        await peer.send(Outcome(id=bytes(16), state="done"))
        assert (await peer.await_frame(Unsupported)).frame == "outcome"
        await peer.socket.send(b"\x81\xa4type\xa5later")
        assert (await peer.await_frame(Unsupported)).frame == "later"


@pytest.mark.parametrize(
    "frame", [b"not msgpack", b"\x81\xa4type\xa5batch", "a text"], ids=["bytes", "missing", "text"]
)
async def test_an_invalid_frame_closes_with_4400(central: Central, frame: bytes | str) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        await peer.socket.send(frame)
        assert await peer.closed() == 4400


async def test_a_batch_before_hello_closes_with_4400(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.send(readings_batch(SET, 0, [(0, now_us(), 1.0, 0)]))
        assert await peer.closed() == 4400


async def test_a_version_central_does_not_speak_closes_with_4426(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.socket.send(pack(make_hello(version=2)))
        assert await peer.closed() == 4426
        assert peer.socket.close_reason == "speaks 1"


async def test_a_point_set_whose_hash_is_wrong_closes_with_4400(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        frame = point_set_frame(SET)
        await peer.send(frame.model_copy(update={"hash": bytes(32)}))
        assert await peer.closed() == 4400


async def test_a_newer_session_fences_the_older_with_4409(central: Central) -> None:
    gateway = await central.gateway()
    async with link_peer(central.link_port, gateway.context()) as older:
        await older.hello()
        async with link_peer(central.link_port, gateway.context()) as newer:
            await newer.hello()
            assert await older.closed() == 4409
            await newer.send(readings_batch(SET, 0, [(0, now_us(), 1.0, 0)]))
            await send_set(newer)
            await settled_of(newer, 7, 0)


async def test_a_session_without_the_subprotocol_is_refused(central: Central) -> None:
    from websockets.asyncio.client import connect  # noqa: PLC0415  # the bare client, once

    gateway = await central.gateway()
    url = f"wss://localhost:{central.link_port}/link"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, ssl=gateway.context()):
            pass
    assert refused.value.response.status_code == 400


async def test_more_batches_than_the_hand_holds_are_put_off_not_lost(central: Central) -> None:
    gateway = await central.gateway()
    most = central.settings.batches_in_hand
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        # Held for their point set, they stay in hand, so the last one finds it full.
        for seq in range(most):
            await peer.send(readings_batch(SET, seq, [(0, now_us() + seq, 1.0, 0)]))
        await peer.await_frame(NeedPointSet)  # else the set may come before it was asked for
        await peer.send(readings_batch(SET, most, [(0, now_us() + most, 1.0, 0)]))
        put_off = await peer.await_frame(RetryAfter)
        assert (put_off.seq, put_off.reason) == (most, "busy")
        await peer.send(point_set_frame(SET))
        await peer.await_frame(Receipt)
        await peer.send(readings_batch(SET, most, [(0, now_us() + most, 1.0, 0)]))
        told: set[int] = set()
        delivered = 0
        while len(told) < most + 1:
            frame = await peer.next()
            for each in frame.settled if isinstance(frame, Receipt) else ():
                told |= {seq for first, last in each.seqs for seq in range(first, last + 1)}
                delivered = each.delivered
    assert delivered == most + 1
    assert sum(isinstance(frame, NeedPointSet) for frame in peer.seen) == 1


async def test_totals_told_always_belong_to_the_ranges_told(central: Central) -> None:
    gateway = await central.gateway()
    total = 40
    told: set[int] = set()
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
        start = now_us()
        for seq in range(total):
            await peer.send(
                readings_batch(SET, seq, [(0, start + seq, 1.0, 0), (1, start + seq, 1, 0)])
            )
            if seq == 0:
                await send_set(peer)
        while len(told) < total:
            for each in (await peer.await_frame(Receipt)).settled:
                told |= {seq for first, last in each.seqs for seq in range(first, last + 1)}
                assert each.delivered == 2 * len(told)


async def test_last_seen_and_software_of_a_gateway_are_known(central: Central) -> None:
    gateway = await central.gateway()
    async with central.client() as client, link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()

        async def is_connected() -> bool:
            [row] = (await client.get("/gateways")).json()["gateways"]
            return bool(row["state"] == "connected" and row["software"] == "scripted peer")

        await until(is_connected, "the gateway is seen")
