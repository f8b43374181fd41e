"""Commands: what is carried out, what is not, and who wins; one behaviour a test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.commands import Asked, CommandWrong, IdTaken, Record, Source, State
from edge.commands.audit import broken_at
from edge.commands.way import Heard
from edge.writable import InterlockSection
from tests.integration.commands_kit import CommandSite, site_in

ID = bytes(range(16))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[CommandSite]:
    made = site_in(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def central(site: CommandSite, value: float | None, **more: Any) -> Record:
    """Submit for central, and carry out what is due."""
    id_ = more.pop("id_", None)
    asked = {"point": "a", "value": value, "expires_us": site.clock.us(60), **more}
    return await ended(site, await site.commander.submit(Asked.of(asked), Source.CENTRAL, id_))


async def local(site: CommandSite, value: float | None, **more: Any) -> Record:
    asked = {"point": "a", "value": value, **more}
    return await ended(site, await site.commander.submit(Asked.of(asked), Source.LOCAL))


async def ended(site: CommandSite, record: Record) -> Record:
    await site.turn()
    return await site.commander.outcome(record.command.id, 0.0)


async def test_a_command_is_written_read_back_and_done(site: CommandSite) -> None:
    record = await central(site, 21.5)
    assert (record.state, record.detail) == (State.DONE, "reads 21.5")
    assert site.written() == [21.5]
    assert [one.value for one in site.commander.active()] == [21.5]


async def test_a_point_without_write_is_never_written(site: CommandSite) -> None:
    del site.way.limits["a"]
    record = await central(site, 21.5)
    assert record.state is State.REFUSED
    assert "not writable" in record.detail
    assert site.written() == []


@pytest.mark.parametrize("value", [-1.0, 2e6, "on"])
async def test_what_is_out_of_bounds_is_refused(site: CommandSite, value: Any) -> None:
    assert (await central(site, value)).state is State.REFUSED
    assert site.written() == []


async def test_the_same_command_again_is_the_same_command(site: CommandSite) -> None:
    expires_us = site.clock.us(60)
    for _ in range(3):
        record = await central(site, 21.5, id_=ID, expires_us=expires_us)
        assert record.state is State.DONE
    assert site.written() == [21.5]


async def test_another_command_under_a_known_id_is_not_taken(site: CommandSite) -> None:
    await central(site, 21.5, id_=ID)
    with pytest.raises(IdTaken):
        await central(site, 22.5, id_=ID)
    assert site.written() == [21.5]


async def test_a_command_of_central_must_expire(site: CommandSite) -> None:
    assert "expires_us is missing" in (await central(site, 21.5, expires_us=None)).detail


async def test_a_late_command_is_not_written(site: CommandSite) -> None:
    site.way.away.add("d")
    record = await central(site, 21.5)
    assert record.state is State.WAITING
    site.way.away.clear()
    site.clock.advance(61)
    assert (await ended(site, record)).state is State.EXPIRED
    assert site.written() == []


async def test_a_clock_that_is_set_back_makes_no_command_late(site: CommandSite) -> None:
    site.way.away.add("d")
    record = await central(site, 21.5)
    site.clock.wall_off_s = -3_600.0
    site.clock.advance(61)
    site.way.away.clear()
    assert (await ended(site, record)).state is State.EXPIRED
    assert site.written() == []


async def test_a_write_that_a_slow_device_would_do_late_is_called_off(site: CommandSite) -> None:
    site.device.slow_s = 61.0
    assert (await central(site, 21.5)).state is State.UNKNOWN
    assert 21.5 not in site.written()


async def test_without_a_synchronised_clock_times_are_refused_and_hands_are_not(
    site: CommandSite,
) -> None:
    site.clock.is_synchronised = False
    assert (await central(site, 21.5)).state is State.REFUSED
    assert (await local(site, 22.5)).state is State.DONE
    assert site.written() == [22.5]


async def test_a_command_for_later_waits_for_both_clocks(site: CommandSite) -> None:
    not_before_us, expires_us = site.clock.us(3_600), site.clock.us(7_200)
    record = await central(site, 21.5, not_before_us=not_before_us, expires_us=expires_us)
    site.clock.wall_off_s = 3_700.0
    assert (await ended(site, record)).state is State.WAITING
    site.clock.wall_off_s = 0.0
    await site.turn(3_601)
    assert site.written() == [21.5]


async def test_a_hand_holds_central_off_until_it_gives_back(site: CommandSite) -> None:
    await central(site, 20.0)
    await local(site, 30.0, actor="Ada")
    record = await central(site, 21.0, priority=9)
    assert (record.state, record.detail) == (State.REFUSED, "held by hand at priority 8: Ada")
    await ended(site, await site.commander.release("a", actor="Ada"))
    assert site.written() == [20.0, 30.0, 20.0]
    assert (await central(site, 21.0)).state is State.DONE


async def test_central_may_use_no_priority_of_people_on_site(site: CommandSite) -> None:
    assert "priorities 9 to 16" in (await central(site, 21.0, priority=8)).detail


async def test_a_lease_ends_by_itself_also_after_a_restart(site: CommandSite) -> None:
    await central(site, 21.0, lease_s=600)
    await site.turn(300)
    await site.stop()
    await site.start()
    await site.turn(299)
    assert site.written() == [21.0]
    await site.turn(2)
    assert site.written() == [21.0, 0.0]
    assert site.commander.active() == []
    given_back = (await site.commander.history())[0]
    assert (given_back.command.source, given_back.state) == (Source.GATEWAY, State.DONE)


async def test_a_lease_ends_in_another_boot_without_a_clock(site: CommandSite) -> None:
    await central(site, 21.0, lease_s=600)
    await site.stop()
    site.clock.reboot(wall_off_s=-1.7e9)
    await site.start()
    await site.turn(601)
    assert site.written() == [21.0, 0.0]


async def test_a_device_that_is_away_at_the_end_of_a_lease_is_released_when_it_is_back(
    site: CommandSite,
) -> None:
    await central(site, 21.0, lease_s=600)
    site.way.away.add("d")
    await site.turn(601)
    assert site.written() == [21.0]
    site.way.away.clear()
    await site.turn(0)
    assert site.written() == [21.0, 0.0]


async def test_what_reads_back_another_value_failed_and_is_taken_back(site: CommandSite) -> None:
    site.device.clamps_at = 25.0
    record = await central(site, 26.0)
    assert (record.state, record.detail) == (State.FAILED, "written 26, but reads 25")
    await site.turn()
    assert site.written() == [26.0, 0.0]


async def test_what_nobody_knows_is_unknown_and_never_written_again(site: CommandSite) -> None:
    site.device.loses_answer = True
    record = await central(site, 26.0)
    assert record.state is State.UNKNOWN
    site.device.loses_answer = False
    await site.turn(5)
    assert site.written()[0] == 26.0
    assert 26.0 not in site.written()[1:]


async def test_a_device_that_says_no_failed(site: CommandSite) -> None:
    site.device.says_no = True
    assert (await central(site, 26.0)).state is State.FAILED
    await site.turn(60)
    assert site.written() == []


async def test_commands_come_no_faster_than_a_point_takes(tmp_path: Path) -> None:
    site = site_in(tmp_path, min_interval_s=10)
    await site.start()
    assert (await central(site, 1.0)).state is State.DONE
    assert "written" in (await central(site, 2.0)).detail
    await site.turn(11)
    assert (await central(site, 2.0)).state is State.DONE
    await site.stop()


@pytest.mark.parametrize(
    ("heard", "state"),
    [
        (Heard(1.0, 5.0), State.DONE),
        (Heard(0.0, 5.0), State.REFUSED),
        (Heard(1.0, 61.0), State.REFUSED),
        (Heard(None, 5.0), State.REFUSED),
        (None, State.REFUSED),
    ],
)
async def test_an_interlock_wants_a_good_fresh_value(
    tmp_path: Path, heard: Heard | None, state: State
) -> None:
    site = site_in(tmp_path, interlock=(InterlockSection(point="fan", equals=1),))
    if heard is not None:
        site.way.conditions["fan"] = heard
    await site.start()
    assert (await central(site, 1.0)).state is state
    await site.stop()


async def test_a_device_with_priorities_of_its_own_is_given_back_by_none(site: CommandSite) -> None:
    site.way.releases = True
    await central(site, 21.0, lease_s=600)
    await site.turn(601)
    assert site.written() == [21.0, None]


async def test_a_command_is_taken_up_though_who_asked_goes_away(site: CommandSite) -> None:
    asked = Asked.of({"point": "a", "value": 21.5})
    asking = asyncio.create_task(site.commander.submit(asked, Source.LOCAL, ID))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    again = await site.commander.submit(asked, Source.LOCAL, ID)
    assert (await ended(site, again)).state is State.DONE
    assert site.written() == [21.5]


async def test_the_audit_tells_everything_in_an_unbroken_chain(site: CommandSite) -> None:
    await central(site, 21.0, actor="Eve", reason="night")
    await central(site, -5.0)
    entries = await site.commander.audit()
    told = [one.entry["state"] for one in reversed(entries)]
    assert told == ["waiting", "sending", "done", "refused"]
    assert (entries[-1].entry["actor"], entries[-1].entry["reason"]) == ("Eve", "night")
    store = site.commander.desk.store
    assert broken_at(store) is None
    with store.writing() as db:
        db.execute("DROP TRIGGER audit_stays")
        db.execute("UPDATE audit SET entry = replace(entry, 'Eve', 'Bob')")
    assert broken_at(store) == 1


@pytest.mark.parametrize(
    "document",
    [
        5,
        {},
        {"point": "", "value": 1},
        {"point": "a", "value": float("nan")},
        {"point": "a", "value": "\ud800"},
        {"point": "a", "value": "x" * 201},
        {"point": "a", "value": 1, "expires_us": 2**63},
    ],
)
def test_what_is_no_command_is_told(document: Any) -> None:
    with pytest.raises(CommandWrong):
        Asked.of(document)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3),
    max_leaves=6,
)
NAMES = sorted(Asked.model_fields)


@given(more=st.dictionaries(st.sampled_from(NAMES), ANYTHING))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_document_is_kept_or_told_what_is_wrong(
    site: CommandSite, more: dict[str, Any]
) -> None:
    try:
        asked = Asked.of({"point": "a", "value": 1.0, **more})
    except CommandWrong:
        return
    assert (await site.commander.submit(asked, Source.CENTRAL)).state in State
