"""The driver contract as tests: what `protocols/driver.py` promises, asked of every driver.

A driver's test module brings a *rig* (a device it can start, stop and spoil, with known values) and
subclasses the parts that apply::

    class TestModbus(PollingContract):
        @pytest.fixture
        async def rig(self) -> AsyncIterator[ModbusRig]:
            rig = ModbusRig()
            await rig.start()
            yield rig
            await rig.stop()

`DriverContract` holds for every driver, `PollingContract` where `read` asks the device,
`PushingContract` where the device pushes, `AcknowledgingContract` where it also repeats what was
not acknowledged (`tokens_kept` > 0).
"""

import asyncio
import inspect
import math
from pathlib import Path
from typing import Final

import anyio
import numpy as np
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from protocols.driver import Driver, Subscribing
from protocols.testing.rig import (
    DEADLINE_S,
    HOST,
    Inbox,
    Rig,
    build,
    build_one,
    classes,
    closed_port,
    connect_and_read,
    deaf_server,
    eventually,
    forbid_sockets,
    make,
    no_tasks_but,
    read_or_reconnect,
    reasons,
    subscribed,
)
from shared.clock import SystemClock
from shared.errors import LinkLost, OptionsWrong
from shared.quality import GOOD, QualityClass, Reason

__all__ = [
    "DEADLINE_S",
    "HOST",
    "AcknowledgingContract",
    "DriverContract",
    "Inbox",
    "PollingContract",
    "PushingContract",
    "Rig",
    "closed_port",
    "connect_and_read",
    "deaf_server",
    "eventually",
    "make",
    "no_tasks_but",
    "subscribed",
]

QUALITY_RULES: Final = (
    "reconnects_by_itself",
    "dead_device_does_not_slow_its_bus",
    "partial_failure_keeps_other_points",
    "no_duplicate_device",
    "four_step_connection_test",
    "browse_or_discover",
    "reads_and_writes_every_documented_type",
    "read_back_after_write",
    "subscription_watchdog",
    "cancel_safe",
    "tested_against_two_foreign_implementations",
    "options_limits_and_devices_documented",
    "secrets_never_logged",
)


class DriverContract:
    """What holds for every driver."""

    async def test_options_describe_themselves_for_forms_and_reference(self, rig: Rig) -> None:
        for model in (rig.driver_type.device_options, rig.driver_type.point_options):
            undescribed = [
                name for name, field in model.model_fields.items() if not field.description
            ]
            assert undescribed == []
            assert model.model_json_schema()["type"] == "object"

    async def test_an_unknown_option_is_refused(self, rig: Rig) -> None:
        for options in (rig.options(), rig.points()[0].options):
            fields = options.model_dump(exclude_unset=True) | {"surplus": 1}
            with pytest.raises(ValidationError, match="surplus"):
                type(options).model_validate(fields)

    async def test_wrong_options_are_refused_before_any_connection(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = rig.options().model_dump(exclude_unset=True)
        sources = rig.points()
        point = sources[0].options.model_dump(exclude_unset=True)
        assert rig.wrong_options or rig.wrong_points
        forbid_sockets(monkeypatch)
        for wrong in rig.wrong_options:
            with pytest.raises((ValidationError, OptionsWrong)):
                build(rig.driver_type, device | wrong, sources)
        for wrong in rig.wrong_points:
            with pytest.raises((ValidationError, OptionsWrong)):
                build_one(rig.driver_type, device, sources[0].point, point | wrong)

    async def test_building_and_planning_do_no_io(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options, points = rig.options(), rig.points()
        forbid_sockets(monkeypatch)
        driver = rig.driver_type.make(options)
        driver.plan(points)
        assert isinstance(driver, Driver)

    async def test_a_driver_subscribes_exactly_if_its_type_pushes(self, rig: Rig) -> None:
        assert isinstance(make(rig), Subscribing) == rig.driver_type.pushes

    async def test_a_read_gives_one_row_per_point_in_order(self, rig: Rig) -> None:
        columns = await connect_and_read(rig)
        assert columns.series.tolist() == list(range(len(rig.points())))
        assert columns.series.dtype == np.int32
        assert columns.observed_at.dtype == np.int64
        assert columns.value.dtype == np.float64
        assert columns.quality.dtype == np.uint16
        assert columns.observed_at.max() <= SystemClock().now_us() + 1_000_000

    async def test_no_points_give_no_rows(self, rig: Rig) -> None:
        driver = make(rig)
        async with driver:
            assert len(await driver.read(driver.plan([]))) == 0

    async def test_a_refused_connection_is_a_lost_link_that_says_where(self, rig: Rig) -> None:
        port = closed_port()
        with pytest.raises(LinkLost, match=str(port)):
            await connect_and_read(rig, port)

    async def test_a_peer_that_never_answers_is_given_up(self, rig: Rig) -> None:
        async with deaf_server(slams=False) as port:
            with pytest.raises(LinkLost, match=str(port)):
                await connect_and_read(rig, port)

    async def test_a_peer_that_accepts_and_closes_is_a_lost_link(self, rig: Rig) -> None:
        async with deaf_server(slams=True) as port:
            with pytest.raises(LinkLost, match=str(port)):
                await connect_and_read(rig, port)

    async def test_a_cancelled_connect_leaves_nothing_behind(self, rig: Rig) -> None:
        before = asyncio.all_tasks()
        for turns in range(8):
            opening = asyncio.ensure_future(connect_and_read(rig))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
        await no_tasks_but(before)
        await connect_and_read(rig)

    async def test_a_closed_driver_leaves_no_task_behind(self, rig: Rig) -> None:
        before = asyncio.all_tasks()
        await connect_and_read(rig)
        await no_tasks_but(before)

    async def test_leaving_does_not_raise_when_the_link_is_gone(self, rig: Rig) -> None:
        async with make(rig):
            await rig.stop()
            await asyncio.sleep(0)

    async def test_a_new_driver_connects_after_an_outage(self, rig: Rig) -> None:
        await connect_and_read(rig)
        await rig.stop()
        with pytest.raises(LinkLost):
            await connect_and_read(rig)
        await rig.start()
        assert len(await connect_and_read(rig)) == len(rig.points())

    async def test_every_quality_rule_is_rated_with_a_note(self, rig: Rig) -> None:
        home = Path(inspect.getfile(rig.driver_type.device_options)).parent
        rated = YAML(typ="safe").load(home / "quality.yaml")
        assert tuple(rated) == QUALITY_RULES
        for rule, rating in rated.items():
            assert rating["status"] in {"done", "todo", "exempt"}, rule
            assert rating["note"].strip(), rule


class PollingContract(DriverContract):
    """What holds where `read` asks the device."""

    async def test_a_read_gives_the_devices_values(self, rig: Rig) -> None:
        wanted = [1000.0 + index for index in range(len(rig.points()))]
        for index, value in enumerate(wanted):
            await rig.put(index, value)
        columns = await connect_and_read(rig)
        assert columns.value.tolist() == wanted
        assert columns.quality.tolist() == [GOOD] * len(wanted)

    async def test_rows_follow_the_order_of_the_plan_and_a_point_may_come_twice(
        self, rig: Rig
    ) -> None:
        points = rig.points()
        for index in range(len(points)):
            await rig.put(index, 10.0 * index)
        order = [2, 0, 2, 1]
        driver = make(rig)
        async with driver:
            columns = await driver.read(driver.plan([points[index] for index in order]))
        assert columns.series.tolist() == [0, 1, 2, 3]
        assert columns.value.tolist() == [10.0 * index for index in order]

    async def test_every_read_asks_again(self, rig: Rig) -> None:
        driver = make(rig)
        plan = driver.plan(rig.points())
        async with driver:
            for value in (1.0, 2.0, 3.0):
                await rig.put(0, value)
                assert (await driver.read(plan)).value[0] == value

    async def test_a_point_that_fails_keeps_the_others(self, rig: Rig) -> None:
        for index in range(len(rig.points())):
            await rig.put(index, 5.0 + index)
        await rig.fail(1)
        driver = make(rig)
        plan = driver.plan(rig.points())
        async with driver:
            for _ in range(3):
                columns = await driver.read(plan)
                assert math.isnan(columns.value[1])
                assert classes(columns)[1] is QualityClass.BAD
                assert reasons(columns)[1] not in {Reason.NONE, Reason.LINK_DOWN}
                assert columns.value[[0, 2]].tolist() == [5.0, 7.0]
                assert columns.quality[[0, 2]].tolist() == [GOOD, GOOD]

    async def test_a_device_that_dies_is_a_lost_link(self, rig: Rig) -> None:
        driver = make(rig)
        plan = driver.plan(rig.points())
        async with driver:
            await driver.read(plan)
            await rig.stop()
            with anyio.fail_after(DEADLINE_S), pytest.raises(LinkLost):
                await driver.read(plan)
            with anyio.fail_after(DEADLINE_S), pytest.raises(LinkLost):
                await driver.read(plan)

    async def test_reading_before_connecting_is_a_lost_link(self, rig: Rig) -> None:
        driver = make(rig)
        with pytest.raises(LinkLost):
            await driver.read(driver.plan(rig.points()))

    async def test_a_cancelled_read_never_shifts_answers(self, rig: Rig) -> None:
        driver = make(rig)
        plan = driver.plan(rig.points())
        async with driver:
            for turns in range(12):
                await rig.put(0, 100.0 + turns)
                reading = asyncio.ensure_future(driver.read(plan))
                for _ in range(turns):
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait([reading])
                await rig.put(0, 200.0 + turns)
                value = await read_or_reconnect(rig, driver, plan)
                assert value == 200.0 + turns

    async def test_reads_side_by_side_do_not_mix(self, rig: Rig) -> None:
        points = rig.points()
        for index in range(len(points)):
            await rig.put(index, 30.0 + index)
        driver = make(rig)
        plans = [driver.plan([point]) for point in points]
        async with driver:
            several = await asyncio.gather(*(driver.read(plan) for plan in plans for _ in range(5)))
        wanted = [30.0 + index for index in range(len(points)) for _ in range(5)]
        assert [columns.value[0] for columns in several] == wanted


class PushingContract(DriverContract):
    """What holds where the device pushes."""

    async def test_what_the_device_pushes_arrives_once_under_its_point(self, rig: Rig) -> None:
        async with subscribed(rig) as inbox:
            for index in range(len(rig.points())):
                await rig.put(index, 70.0 + index)
                await inbox.until_seen(index, 70.0 + index)
        assert inbox.series() <= set(range(len(rig.points())))
        assert all(inbox.count(index, 70.0 + index) == 1 for index in range(len(rig.points())))

    async def test_pushed_rows_come_in_order_per_point(self, rig: Rig) -> None:
        async with subscribed(rig) as inbox:
            await rig.put(0, 1.0)
            await inbox.until_seen(0, 1.0)
            for value in (2.0, 3.0, 4.0):
                await rig.put(0, value)
            await inbox.until_seen(0, 4.0)
        values = inbox.values(0)
        assert values[values.index(1.0) :] == sorted(values[values.index(1.0) :])

    async def test_a_device_that_dies_ends_the_subscription_as_a_lost_link(self, rig: Rig) -> None:
        async with subscribed(rig) as inbox:
            await rig.put(0, 1.0)
            await inbox.until_seen(0, 1.0)
            await rig.stop()
            await inbox.until_ended()
            assert isinstance(inbox.error, LinkLost)

    async def test_done_may_be_called_after_the_link_was_lost(self, rig: Rig) -> None:
        async with subscribed(rig, done=False) as inbox:
            await rig.put(0, 1.0)
            await inbox.until_seen(0, 1.0)
            await rig.stop()
            await inbox.until_ended()
        for delivery in inbox.deliveries:
            delivery.done()

    async def test_a_cancelled_subscription_leaves_no_task_behind(self, rig: Rig) -> None:
        before = asyncio.all_tasks()
        async with subscribed(rig) as inbox:
            await rig.put(0, 1.0)
            await inbox.until_seen(0, 1.0)
        await no_tasks_but(before)

    async def test_a_point_that_fails_lets_the_others_arrive(self, rig: Rig) -> None:
        await rig.fail(1)
        async with subscribed(rig) as inbox:
            await rig.put(0, 11.0)
            await rig.put(2, 12.0)
            await inbox.until_seen(0, 11.0)
            await inbox.until_seen(2, 12.0)

    async def test_a_new_subscription_after_an_outage_delivers(self, rig: Rig) -> None:
        async with subscribed(rig) as inbox:
            await rig.put(0, 1.0)
            await inbox.until_seen(0, 1.0)
            await rig.stop()
            await inbox.until_ended()
        await rig.start()
        async with subscribed(rig) as inbox:
            await rig.put(0, 2.0)
            await inbox.until_seen(0, 2.0)


class AcknowledgingContract(PushingContract):
    """What holds where the device repeats what was not acknowledged."""

    max_unacknowledged: int
    """Of the rig's options; small, so that a test can fill it."""

    async def test_what_was_not_acknowledged_comes_again(self, rig: Rig) -> None:
        async with subscribed(rig, done=False) as inbox:
            await rig.put(0, 21.0)
            await inbox.until_seen(0, 21.0)
        async with subscribed(rig) as again:
            await again.until_seen(0, 21.0)

    async def test_what_was_acknowledged_does_not_come_again(self, rig: Rig) -> None:
        async with subscribed(rig) as inbox:
            await rig.put(0, 21.0)
            await inbox.until_seen(0, 21.0)
            await rig.put(0, 22.0)
            await inbox.until_seen(0, 22.0)
        known = inbox.tokens()
        async with subscribed(rig, known=known) as again:
            await rig.put(0, 23.0)
            await again.until_seen(0, 23.0)
        assert again.count(0, 21.0) == 0

    async def test_what_is_known_is_acknowledged_and_not_yielded(self, rig: Rig) -> None:
        async with subscribed(rig, done=False) as inbox:
            await rig.put(0, 31.0)
            await inbox.until_seen(0, 31.0)
        async with subscribed(rig, known=inbox.tokens()) as again:
            await rig.put(0, 32.0)
            await again.until_seen(0, 32.0)
        assert again.count(0, 31.0) == 0
        async with subscribed(rig, known=()) as third:
            await rig.put(0, 33.0)
            await third.until_seen(0, 33.0)
        assert third.count(0, 31.0) == 0

    async def test_no_more_than_the_window_waits_for_done(self, rig: Rig) -> None:
        many = self.max_unacknowledged + 5
        async with subscribed(rig, done=False) as inbox:
            for value in range(many):
                await rig.put(0, 1000.0 + value)
            await inbox.until(lambda: len(inbox.tokens()) >= self.max_unacknowledged, "full window")
            with anyio.move_on_after(0.5):  # an observation: nothing more may come
                await inbox.until_ended()
            assert len(inbox.tokens()) == self.max_unacknowledged
            inbox.finish()
            await inbox.until_seen(0, 1000.0 + many - 1)
        wanted = [1000.0 + value for value in range(many)]
        assert [value for value in inbox.values(0) if value >= 1000.0] == wanted
