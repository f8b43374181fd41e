"""A check-out on disk: it survives restarts, counts what was found last, and is handed over."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge.config_store import FILE_NAME, ConfigStore
from edge.exchange import read_sheet
from edge.field import checkout_store
from edge.field.checkout import CheckOutRefused, Finding, Item, Progress, Verdict
from edge.field.checkout_report import csv_of, page_of
from edge.field.checkout_store import CheckOutStore
from edge.field.checkouts import CheckOuts
from edge.live import LiveValues
from edge.settings import Device, Document, devices_of
from shared.columns import Columns
from shared.model import PointType
from shared.quality import Reason, bad

pytestmark = pytest.mark.integration

EVIL = '<script>alert("x")</script>'
NOW_US = 1_790_000_000_000_000


def configured() -> tuple[Device, ...]:
    def device(name: str, *keys: str) -> dict[str, object]:
        points = [
            {"key": key, "unit": "°C", "source": {"register": at}} for at, key in enumerate(keys)
        ]
        options = {"host": f"{name}.invalid"}
        return {"name": name, "driver": "modbus", "options": options, "points": points}

    document = {"devices": [device("ahu", "ahu/supply", "ahu/return"), device("room", "room/t")]}
    return devices_of(Document.model_validate(document))


class FixedClock:
    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0


@dataclass
class Site:
    """A gateway's check-outs, and the values that its devices show."""

    folder: Path
    devices: Sequence[Device] = field(default_factory=configured)
    live: LiveValues = field(default_factory=LiveValues)

    def show(self, device: int, *values: float) -> None:
        rows = range(len(values))
        columns = Columns.of(list(rows), [NOW_US] * len(values), values, [0] * len(values))
        self.live.take(self.devices[device], columns)

    def opened(self) -> CheckOuts:
        store = CheckOutStore(ConfigStore(self.folder / FILE_NAME))
        return CheckOuts(store, self.live, lambda: self.devices, FixedClock())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.show(0, 21.2, 30.0)
    return made


@pytest.fixture
async def checkouts(site: Site) -> AsyncIterator[CheckOuts]:
    made = site.opened()
    yield made
    made.store.store.close()


async def test_a_check_out_goes_on_after_a_restart(site: Site) -> None:
    first = site.opened()
    begun = await first.begin("Tower A", "Ada")
    number = begun.head.number
    await first.record(number, "ahu/supply", Finding("Ada", expected=21.0))
    await first.record(number, "ahu/return", Finding("Ada", expected=21.0, note="wiring?"))
    first.store.store.close()

    again = site.opened()
    (head,) = await again.heads()
    assert (head.title, head.progress) == ("Tower A", Progress(3, passed=1, failed=1))
    found = await again.find(number)
    assert [one.key for one in found.items] == ["ahu/supply", "ahu/return", "room/t"]
    record = found.items[1].record
    assert record is not None
    assert (record.expected, record.value, record.tolerance) == (21.0, 30.0, 0.5)
    assert (record.by, record.note, record.at_us) == ("Ada", "wiring?", NOW_US)
    again.store.store.close()


async def test_what_was_found_last_counts_and_what_was_found_first_stays(
    site: Site, checkouts: CheckOuts
) -> None:
    number = (await checkouts.begin("t", "Ada")).head.number
    await checkouts.record(number, "ahu/return", Finding("Ada", expected=21.0))
    site.show(0, 21.0, 21.0)
    await checkouts.record(number, "ahu/return", Finding("Bob", expected=21.0))
    assert (await checkouts.find(number)).head.progress == Progress(3, passed=1)
    history = await checkouts.history(number, "ahu/return")
    assert [(one.by, one.verdict) for one in history] == [
        ("Ada", Verdict.FAIL),
        ("Bob", Verdict.PASS),
    ]


async def test_a_point_is_held_against_what_shows_at_that_moment(
    site: Site, checkouts: CheckOuts
) -> None:
    number = (await checkouts.begin("t", "Ada", devices=["ahu"])).head.number
    site.live.silence(site.devices[0], Reason.LINK_DOWN, NOW_US)
    record = await checkouts.record(number, "ahu/supply", Finding("Ada", expected=21.0))
    assert (record.verdict, record.quality) == (Verdict.FAIL, bad(Reason.LINK_DOWN))


async def test_only_what_is_chosen_is_checked(checkouts: CheckOuts) -> None:
    some = await checkouts.begin("t", "Ada", devices=["room"], keys=["ahu/return"])
    assert [one.key for one in some.items] == ["ahu/return", "room/t"]
    for chosen in ({"devices": ["cellar"]}, {"keys": ["ahu/none"]}):
        with pytest.raises(CheckOutRefused, match="not configured"):
            await checkouts.begin("t", "Ada", **chosen)


async def test_nothing_is_recorded_where_nothing_may_be(checkouts: CheckOuts) -> None:
    number = (await checkouts.begin("t", "Ada")).head.number
    closed = await checkouts.close(number)
    assert closed.closed_us == NOW_US
    finding = Finding("Ada", verdict=Verdict.NA)
    for where, key, code in [
        (number, "ahu/supply", "checkout_closed"),
        (number + 1, "ahu/supply", "checkout_unknown"),
    ]:
        with pytest.raises(CheckOutRefused) as refused:
            await checkouts.record(where, key, finding)
        assert refused.value.code == code
    await checkouts.reopen(number)
    with pytest.raises(CheckOutRefused, match="no point"):
        await checkouts.record(number, "other", finding)
    await checkouts.record(number, "ahu/supply", finding)


async def test_one_that_is_deleted_is_gone_with_its_records(checkouts: CheckOuts) -> None:
    number = (await checkouts.begin("t", "Ada")).head.number
    await checkouts.record(number, "ahu/supply", Finding("Ada", verdict=Verdict.NA))
    await checkouts.delete(number)
    assert await checkouts.heads() == []
    left = checkouts.store.store.rows("SELECT count(*) AS n FROM checkout_records")
    assert left[0]["n"] == 0


async def test_there_are_only_so_many_check_outs_and_records(
    checkouts: CheckOuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout_store, "MOST_CHECKOUTS", 1)
    monkeypatch.setattr(checkout_store, "MOST_RECORDS", 1)
    number = (await checkouts.begin("t", "Ada")).head.number
    finding = Finding("Ada", verdict=Verdict.NA)
    await checkouts.record(number, "ahu/supply", finding)
    for refused in (
        checkouts.begin("t", "Ada"),
        checkouts.record(number, "ahu/return", finding),
    ):
        with pytest.raises(CheckOutRefused) as why:
            await refused
        assert why.value.code == "too_many"


async def test_the_table_is_safe_to_open_and_says_all(checkouts: CheckOuts) -> None:
    number = (await checkouts.begin("t", "Ada")).head.number
    finding = Finding("=cmd|'/c calc'!A1", expected=21.0, note="@SUM(1)")
    await checkouts.record(number, "ahu/return", finding)
    data = csv_of(await checkouts.find(number))
    assert b"'=cmd" in data
    assert b"'@SUM" in data
    sheet = read_sheet(data)
    cells = dict(zip(sheet.heading, sheet.rows[1][1], strict=True))
    assert cells["point"] == "ahu/return"
    assert (cells["expected"], cells["shown"], cells["deviation"]) == ("21.0", "30.0", "9.0")
    assert (cells["verdict"], cells["by"]) == ("fail", "=cmd|'/c calc'!A1")
    assert sheet.rows[0][1][sheet.heading.index("verdict")] == ""


class Page(HTMLParser):
    """Collects what a browser would see of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_stands_alone_and_takes_nothing_for_markup(checkouts: CheckOuts) -> None:
    number = (await checkouts.begin(EVIL, EVIL)).head.number
    await checkouts.record(number, "ahu/return", Finding(EVIL, expected=21.0, note=f"{EVIL} $x"))
    page = Page()
    page.feed(page_of(await checkouts.find(number), EVIL, NOW_US))
    assert "script" not in page.tags
    assert page.links == []
    assert page.text.count(EVIL) >= 5
    assert "1/3" in page.text
    assert "± 0.5" in page.text
    assert not re.search(r"url\(|@import", page.text)


async def test_a_text_point_is_written_as_it_was_shown(tmp_path: Path) -> None:
    store = CheckOutStore(ConfigStore(tmp_path / FILE_NAME))
    number = store.begin("t", "Ada", 1, [Item("mode", "d", "", PointType.TEXT)])
    (item,) = store.items(number)
    assert (item.type, item.record, item.tests) == (PointType.TEXT, None, 0)
    store.store.close()
