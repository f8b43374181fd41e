"""Browsing, searching, reading and the decode matrix, against real devices."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from edge.field import discovery
from edge.field.browsing import Browser, NotBrowsed, Question, TooManyBrowse
from edge.field.decode_matrix import matrix_of
from edge.field.jobs import Jobs, JobState
from edge.field.reading import read_target
from edge.field.target import Target, target_in
from edge.settings import Device, Document, devices_of
from edge.twin import ConfigRefused
from protocols import registry
from shared.clock import SystemClock
from shared.errors import LinkLost, OptionsWrong
from tests.servers.bacnet import HOST, INSTANCE, BacnetServer
from tests.servers.fake_driver import FakeDevice, NoOptions
from tests.servers.mosquitto import mosquitto, publish
from tests.servers.quiet import quiet_server
from tests.servers.register_device import register_device

pytestmark = pytest.mark.integration


@pytest.fixture
async def bacnet() -> AsyncIterator[BacnetServer]:
    async with BacnetServer() as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited tells nobody
            await asyncio.sleep(0.01)


def bacnet_target(server: BacnetServer, **more: Any) -> Target:
    return target_in({"driver": "bacnet", "options": {"host": HOST, "port": server.port, **more}})


def configured(server: BacnetServer) -> tuple[Device, ...]:
    points = [{"key": "ahu/temp2", "source": {"object": "analog-input", "instance": 2}}]
    options = {"host": HOST, "port": server.port}
    device = {"name": "ahu", "driver": "bacnet", "options": options, "points": points}
    return devices_of(Document.model_validate({"devices": [device]}))


async def test_nodes_come_in_pages_and_those_that_are_points_are_marked(
    bacnet: BacnetServer,
) -> None:
    async with Browser() as browser:
        page = await browser.begin(bacnet_target(bacnet), Question(limit=5), configured(bacnet))
        seen = list(page.nodes)
        while page.cursor:
            question = Question(cursor=page.cursor, limit=5)
            page = await browser.look(page.session, question, configured(bacnet))
            seen += page.nodes
        assert browser.sessions == 1
    marked = {one.node.name: one.known_as for one in seen if one.known_as}
    assert marked == {"AHU1.Temp2": "ahu/temp2"}
    assert len(seen) == 7
    assert browser.sessions == 0


async def test_a_wrong_cursor_is_told_and_the_session_goes_on(bacnet: BacnetServer) -> None:
    async with Browser() as browser:
        page = await browser.begin(bacnet_target(bacnet), Question(limit=2), ())
        with pytest.raises(OptionsWrong, match="cursor"):
            await browser.look(page.session, Question(cursor="x"), ())
        assert (await browser.look(page.session, Question(limit=3), ())).nodes


async def test_a_session_that_nobody_asks_closes_itself_and_says_so(bacnet: BacnetServer) -> None:
    async with Browser(idle_s=0.05) as browser:
        page = await browser.begin(bacnet_target(bacnet), Question(), ())
        await until(lambda: not browser.sessions)
        with pytest.raises(NotBrowsed):
            await browser.look(page.session, Question(), ())


async def test_only_so_many_devices_are_browsed_at_once(bacnet: BacnetServer) -> None:
    async with Browser(most=1) as browser:
        await browser.begin(bacnet_target(bacnet), Question(limit=1), ())
        with pytest.raises(TooManyBrowse):
            await browser.begin(bacnet_target(bacnet), Question(limit=1), ())


async def test_a_device_that_cannot_be_browsed_or_reached_leaves_no_session() -> None:
    dead = target_in({"driver": "bacnet", "options": {"host": HOST, "port": 9, "timeout_s": 0.2}})
    mute = Target(FakeDevice().driver_type(8), NoOptions())
    async with Browser() as browser:
        for target, error in [(mute, OptionsWrong), (dead, LinkLost)]:
            with pytest.raises(error):
                await browser.begin(target, Question(), ())
        await until(lambda: not browser.sessions)


async def test_browsing_that_is_cancelled_leaves_nothing_open() -> None:
    async with quiet_server() as server, Browser() as browser:
        url = f"opc.tcp://{HOST}:{server.port}"
        options = {"url": url, "timeout_s": 60}
        begun = asyncio.create_task(
            browser.begin(target_in({"driver": "opcua", "options": options}), Question(), ())
        )
        # While the driver cannot browse, it says so without a connection.
        asked = asyncio.create_task(server.until(lambda: server.open == 1))
        await asyncio.wait({begun, asked}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        asked.cancel()
        await asyncio.wait({begun, asked})
        await server.until(lambda: server.open == 0)


@pytest.fixture
def loopback_search(bacnet: BacnetServer) -> dict[str, Any]:
    return {"broadcast": HOST, "port": bacnet.port, "local": HOST, "local_port": 0, "wait_s": 0.5}


async def test_a_scan_is_a_job_that_finds_devices_and_marks_those_that_are_known(
    bacnet: BacnetServer, loopback_search: dict[str, Any]
) -> None:
    search = discovery.search_for("bacnet", loopback_search)
    async with Jobs(SystemClock()) as jobs:
        job = discovery.start(jobs, search, lambda: configured(bacnet))
        async with asyncio.timeout(30):
            while job.state is JobState.RUNNING:
                await job.stirred(5.0)
    assert (job.state, job.progress, job.found) == (JobState.DONE, 1.0, 1)
    (found,) = job.results
    assert found.known_as == "ahu"
    assert found.found.options["instance"] == INSTANCE


async def test_a_scan_that_is_cancelled_gives_its_socket_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        ours = free_udp_port()
        where = {"broadcast": HOST, "port": silent.getsockname()[1], "local": HOST}
        search = discovery.search_for("bacnet", {**where, "local_port": ours, "wait_s": 30})
        async with Jobs(SystemClock()) as jobs:
            for _ in range(2):  # the second could not bind what the first still held
                job = discovery.start(jobs, search, lambda: ())
                await until(lambda: not is_free(ours))
                await jobs.cancel(job.number)
                assert job.state is JobState.CANCELLED
                assert is_free(ours)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def test_what_cannot_be_searched_for_is_told_with_its_place() -> None:
    for driver, options, place in [
        ("mqtt", {}, "driver"),
        ("nothing", {}, "driver"),
        ("bacnet", {"wait_s": 900}, "options.wait_s"),
    ]:
        with pytest.raises(ConfigRefused) as refused:
            discovery.search_for(driver, options)
        assert refused.value.problems[0].path == place


async def test_points_are_read_before_they_are_saved() -> None:
    async with register_device({"holding": {7: 230}}) as port:
        points = [{"key": key, "source": {"register": at}} for key, at in [("u", 7), ("no", 8)]]
        section = {"driver": "modbus", "options": {"host": HOST, "port": port}, "points": points}
        values = await read_target(target_in(section))
    assert [one.words for one in values] == ["good", "bad: wrong address"]
    assert [one.value for one in values] == [230.0, None]
    assert all(one.observed_at for one in values)


async def test_points_of_a_broker_are_listened_to_for_a_while(tmp_path: Any) -> None:
    async with mosquitto(tmp_path) as broker:
        await publish(broker.port, "room/t", "21.5", retain=True)
        options = {"host": HOST, "port": broker.port, "client_id": "a-look"}
        points = [{"key": "t", "source": {"topic": "room/t"}}]
        section = {"driver": "mqtt", "options": options, "points": points}
        (value,) = await read_target(target_in(section))
    assert value.value == 21.5


def test_a_target_tells_all_its_mistakes_with_their_places() -> None:
    points = [{"key": "a b", "source": {"register": 70_000}}, {"key": "ok", "source": {}}]
    section = {"driver": "modbus", "options": {"host": HOST, "unit": 900}, "points": points}
    with pytest.raises(ConfigRefused) as refused:
        target_in(section)
    paths = [one.path for one in refused.value.problems]
    assert paths == ["options.unit", "points[0].key", "points[1].source.register"]


async def test_a_number_is_read_in_every_way_and_only_of_modbus_devices(
    bacnet: BacnetServer,
) -> None:
    async with register_device({"input": {100: 0x4367, 101: 0x8000}}) as port:
        target = target_in({"driver": "modbus", "options": {"host": HOST, "port": port}})
        found = await matrix_of(target, 30_101, "input")
        with pytest.raises(ConfigRefused):
            await matrix_of(target, -5, "input")
    assert any(one.value == 231.5 and one.type == "float32" for one in found)
    with pytest.raises(ConfigRefused):
        await matrix_of(bacnet_target(bacnet), 1, "input")


async def test_a_look_is_taken_with_the_options_for_a_second_connection() -> None:
    seen: list[Any] = []
    driver = registry.find("bacnet")

    def aside(options: Any) -> Any:
        seen.append(options)
        return options.model_copy(update={"timeout_s": 0.3})

    target = bacnet_target(BacnetServer())
    made: Any = replace(target, driver=replace(driver, aside=aside)).beside()
    assert seen == [target.options]
    assert made._options.timeout_s == 0.3
