"""The page in Chromium: it shows the live building, its quality, and finds points."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from central.storage.catalogue import find_project, issue_login
from shared.quality import Reason, bad, uncertain
from tests.servers.central_process import Central
from tests.servers.link_peer import now_us
from tests.servers.seed import seed

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
]

NAN = float("nan")
DEADLINE_MS = 10_000
CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const ground = node => { for (; node; node = node.parentElement) {
    const color = parse(getComputedStyle(node).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color; } return [255, 255, 255]; };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
    if (!own || !node.checkVisibility() || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push(node.className + ": " + node.textContent.trim() + " " + ratio);
  }
  return poor;
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        await launched.close()


@pytest.fixture
async def page(central: Central, browser: Browser) -> AsyncIterator[Page]:
    """Give a signed-in page of a small building, and fail the test on any error it logs."""
    at = now_us()
    step = 10_000_000
    await seed(
        central,
        {
            "ahu1/supply_temp": [(at - n * step, 20.0 + n % 3, 0) for n in range(12)],
            "ahu1/fan_speed": [(at, 62.5, uncertain(Reason.STALE))],
            "meter1/power": [(at, NAN, bad(Reason.LINK_DOWN))],
        },
        {"ahu1/mode": (at, "heating")},
    )
    project = await find_project(central.database.service, "demo")
    assert project is not None
    token = await issue_login(central.database.service, project.project_id)
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    made = await context.new_page()
    made.set_default_timeout(DEADLINE_MS)
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))

    def note(said: ConsoleMessage) -> None:
        # The browser itself logs that a signed-out page may not fetch.
        if said.type == "error" and "401" not in said.text:
            errors.append(said.text)

    made.on("console", note)
    await made.goto(f"{central.url}/login?token={token}")
    await made.locator("details").nth(3).wait_for()
    yield made
    await context.close()
    assert errors == []


async def text_of(page: Page, key: str) -> str:
    row = page.locator("summary", has=page.locator(f'[title="{key}"]'))
    return " ".join((await row.inner_text()).split())


async def until_text(page: Page, key: str, wanted: str) -> None:
    async with asyncio.timeout(DEADLINE_MS / 1_000):
        while wanted not in await text_of(page, key):  # noqa: ASYNC110  # the page has no event
            await asyncio.sleep(0.05)


async def test_values_units_and_quality_are_shown_in_words(page: Page) -> None:
    await until_text(page, "ahu1/supply_temp", "20 °C")
    assert "✓ good" in await text_of(page, "ahu1/supply_temp")
    await until_text(page, "ahu1/fan_speed", "62.50 °C")
    assert "▲ uncertain · stale" in await text_of(page, "ahu1/fan_speed")
    await until_text(page, "meter1/power", "\N{EN DASH}")
    assert "✕ bad · link down" in await text_of(page, "meter1/power")
    assert "heating" in await text_of(page, "ahu1/mode")
    assert (
        await page.locator(".brand").inner_text() == "SPINE\ndemo" or "demo" in await page.title()
    )


async def test_a_new_reading_appears_without_reloading(page: Page, central: Central) -> None:
    await seed(central, {"ahu1/supply_temp": [(now_us(), 33.25, 0)]})
    await until_text(page, "ahu1/supply_temp", "33.25 °C")
    await seed(central, {"vav1/zone_temp": [(now_us(), 21.75, 0)]})
    await page.locator('[title="vav1/zone_temp"]').wait_for()


async def test_a_trend_is_drawn_from_history(page: Page) -> None:
    row = page.locator("summary", has=page.locator('[title="ahu1/supply_temp"]'))
    path = row.locator(".trend path")
    async with asyncio.timeout(DEADLINE_MS / 1_000):
        while (await path.get_attribute("d") or "").count("L") < 10:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


async def test_the_filter_finds_by_name_and_by_quality(page: Page) -> None:
    await page.keyboard.press("/")
    await page.keyboard.type("fan")
    shown = page.locator("details:visible")
    assert await shown.count() == 1
    await page.fill("#filter", "bad")
    assert await shown.count() == 1
    assert "power" in await shown.first.inner_text()
    await page.keyboard.press("Escape")
    assert await shown.count() == 4


async def test_a_row_opens_by_keyboard_and_tells_the_exact_value(page: Page) -> None:
    row = page.locator("summary", has=page.locator('[title="ahu1/supply_temp"]'))
    await row.focus()
    await page.keyboard.press("Enter")
    details = page.locator("details[open] dl")
    await details.wait_for()
    assert "ahu1/supply_temp" in await details.inner_text()
    await page.locator("details[open] .chart path").first.wait_for(state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
async def test_it_fits_and_is_legible(page: Page, scheme: str, width: int) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": width, "height": 800})
    await page.locator(".facts li").first.wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate(CONTRAST) == []


async def test_signing_out_leaves_no_values(page: Page) -> None:
    await page.click("#out")
    await page.get_by_text("You are not signed in").wait_for()
    assert await page.locator("details").count() == 0
