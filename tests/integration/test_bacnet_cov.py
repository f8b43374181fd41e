"""The BACnet driver and a device that tells of changes: kept up, watched, and done without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from protocols.bacnet import BacnetDevice, BacnetDriver, BacnetPoint
from protocols.driver import PointSource
from protocols.testing.rig import Inbox, eventually
from shared.errors import LinkLost, OptionsWrong
from shared.model import Point, PointType
from shared.quality import QualityClass, Reason, class_of, reason_of
from tests.servers.bacnet import HOST, BacnetServer
from tests.servers.inbox import following

TEMPERATURE = PointSource(Point("temp"), BacnetPoint(object="analog-input", instance=0))
FAN = PointSource(
    Point("fan", type=PointType.BOOLEAN), BacnetPoint(object="binary-value", instance=1)
)
MODE = PointSource(
    Point("mode", type=PointType.TEXT), BacnetPoint(object="characterstring-value", instance=1)
)
HIGH_LIMIT = PointSource(
    Point("limit"), BacnetPoint(object="analog-input", instance=0, property="cov-increment")
)


@pytest.fixture
async def server() -> AsyncIterator[BacnetServer]:
    async with BacnetServer() as running:
        yield running


@asynccontextmanager
async def followed(server: BacnetServer, *points: PointSource, **more: Any) -> AsyncIterator[Inbox]:
    """Follow the points with a check that comes late, unless `more` says otherwise."""
    given = {"mode": "cov", "check_s": 600, "timeout_s": 0.5, "retries": 1, **more}
    options = BacnetDevice.model_validate({"host": HOST, "port": server.port, **given})
    async with BacnetDriver(options) as driver, following(driver, points) as inbox:
        yield inbox


@pytest.mark.parametrize("confirmed", [True, False])
async def test_changes_arrive_as_they_are_told(server: BacnetServer, confirmed: bool) -> None:
    async with followed(server, TEMPERATURE, FAN, cov_confirmed=confirmed) as inbox:
        await inbox.until_seen(0, 20.0)
        await inbox.until_seen(1, 0.0)
        server.inputs[0].presentValue = 25.0
        server.switch.presentValue = "active"
        await inbox.until_seen(0, 25.0)
        await inbox.until_seen(1, 1.0)

    assert inbox.values(0) == [20.0, 25.0]
    assert all(bool(asked.issueConfirmedNotifications) == confirmed for asked in server.asked[:2])


async def test_a_change_of_status_alone_arrives(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE) as inbox:
        await inbox.until_seen(0, 20.0)
        server.inputs[0].statusFlags = [0, 1, 0, 0]
        await inbox.until(lambda: len(inbox.deliveries) > 1, "the fault")

    quality = int(inbox.deliveries[-1].columns.quality[0])
    assert (class_of(quality), reason_of(quality)) == (QualityClass.BAD, Reason.SENSOR_FAILURE)


async def test_two_points_of_one_object_share_a_subscription(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE, TEMPERATURE) as inbox:
        await inbox.until_seen(0, 20.0)
        await inbox.until_seen(1, 20.0)
        assert len(server.asked) == 1


async def test_a_subscription_is_renewed_at_half_of_its_life(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE, cov_lifetime_s=2) as inbox:
        await inbox.until_seen(0, 20.0)
        await inbox.until(lambda: len(server.asked) >= 4, "three renewals")
        server.inputs[0].presentValue = 25.0
        await inbox.until_seen(0, 25.0)

    assert {asked.subscriberProcessIdentifier for asked in server.asked} == {
        server.asked[0].subscriberProcessIdentifier
    }
    assert inbox.values(0) == [20.0, 25.0], "a renewal repeats no value"


async def test_a_device_that_restarts_is_subscribed_to_again(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE, cov_lifetime_s=2, timeout_s=5) as inbox:
        await inbox.until_seen(0, 20.0)
        await server.stop()
        await server.start()
        await inbox.until(lambda: len(server.asked) >= 1, "a renewal")
        server.inputs[0].presentValue = 25.0
        await inbox.until_seen(0, 25.0)


async def test_without_a_renewal_a_restart_would_go_unnoticed(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE, cov_lifetime_s=86_400) as inbox:
        await inbox.until_seen(0, 20.0)
        await server.stop()
        await server.start()
        server.inputs[0].presentValue = 25.0
        async with followed(server, TEMPERATURE) as other:
            await other.until_seen(0, 25.0)

    assert inbox.values(0) == [20.0]


async def test_a_check_finds_what_was_not_told_and_subscribes_again(server: BacnetServer) -> None:
    async with followed(server, FAN, check_s=0.5, timeout_s=5) as inbox:
        await inbox.until_seen(0, 0.0)
        await server.stop()
        server.switch.presentValue = "active"
        await server.start()
        await inbox.until_seen(0, 1.0)
        await inbox.until(lambda: len(server.asked) >= 1, "another subscription")


async def test_a_silent_device_is_a_lost_link_by_the_next_check(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE, check_s=0.5) as inbox:
        await inbox.until_seen(0, 20.0)
        await server.stop()
        await inbox.until_ended()

    assert isinstance(inbox.error, LinkLost)


async def test_what_is_refused_is_read_with_auto(server: BacnetServer) -> None:
    server.refuse("analog-input")
    async with followed(server, TEMPERATURE, FAN, mode="auto", poll_s=0.5) as inbox:
        await inbox.until_seen(0, 20.0)
        await inbox.until_seen(1, 0.0)
        server.inputs[0].presentValue = 25.0
        await inbox.until_seen(0, 25.0)


async def test_what_is_refused_is_bad_with_cov(server: BacnetServer) -> None:
    server.refuse("analog-input")
    async with followed(server, TEMPERATURE, FAN) as inbox:
        await inbox.until_seen(1, 0.0)
        await inbox.until(lambda: 0 in inbox.series(), "the refusal")

    bad = inbox.deliveries[0].columns
    assert class_of(int(bad.quality[0])) is QualityClass.BAD


async def test_a_device_that_does_not_know_subscriptions_is_asked_once_and_read() -> None:
    async with BacnetServer(tells=False) as server:
        points = (TEMPERATURE, FAN, MODE)
        async with followed(server, *points, mode="auto", poll_s=0.5) as inbox:
            await inbox.until(lambda: len(inbox.deliveries) >= 2, "two reads")
            server.inputs[0].presentValue = 25.0
            await inbox.until_seen(0, 25.0)
            assert len(server.asked) == 1

    assert inbox.deliveries[0].columns.texts == {2: "heating"}


async def test_another_property_is_read_with_auto_and_refused_with_cov(
    server: BacnetServer,
) -> None:
    async with followed(server, TEMPERATURE, HIGH_LIMIT, mode="auto", poll_s=0.5) as inbox:
        await inbox.until(lambda: {0, 1} <= inbox.series(), "both points")

    with pytest.raises(OptionsWrong, match="use the mode auto"):
        BacnetDriver(BacnetDevice(host=HOST, mode="cov")).plan([HIGH_LIMIT])


async def test_who_leaves_unsubscribes(server: BacnetServer) -> None:
    async with followed(server, TEMPERATURE) as inbox:
        await inbox.until_seen(0, 20.0)

    async def is_cancelled() -> bool:
        last = server.asked[-1]
        return last.lifetime is None and last.issueConfirmedNotifications is None

    await eventually(is_cancelled, "a cancellation")
