"""The demo on the real stack: the same page, fed through Kafka and TimescaleDB."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.async_api import Page, async_playwright

from deploy.central.modules import PORTS
from deploy.central.native.launcher import missing
from deploy.central.servers import NEEDED
from tests.e2e.test_demo import DEMO, REPOSITORY, Started, demo, processes_of
from tests.servers.ports import ports_in_a_row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
]
DEADLINE_S = 120.0


@pytest.fixture
def able() -> None:
    """Skip where this machine lacks something, and say what."""
    lacks = [f"{name}: {', '.join(found)}" for name in NEEDED if (found := missing(name))]
    if lacks:
        pytest.skip("; ".join(lacks))


@contextmanager
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: another session would close that to the database's user.
    with TemporaryDirectory(prefix="spine-demo-") as made:
        yield Path(made) / "demo"


async def shown(page: Page, key: str) -> str:
    row = page.locator("summary", has=page.locator(f'[title="{key}"]'))
    return " ".join((await row.inner_text()).split())


async def look(started: Started, screenshot: Path) -> None:
    """Open the link in Chromium and wait until values move on the page, without an error."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(DEADLINE_S * 1_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        await page.goto(started.link)
        await page.locator('[title="meter1/counter"]').wait_for()
        for key in ("meter1/counter", "ahu1/counter", "room1/counter"):
            before = await shown(page, key)
            async with asyncio.timeout(DEADLINE_S):
                while await shown(page, key) == before:  # noqa: ASYNC110  # the page has no event
                    await asyncio.sleep(0.1)
        await page.screenshot(path=screenshot)
        await browser.close()
    assert errors == []


def reset(home: Path) -> None:
    command = [*DEMO, "--profile=dev", f"--folder={home}", "--reset"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0


@pytest.mark.usefixtures("able")
async def test_the_demo_on_the_real_stack_shows_live_values_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with folder() as home:
        with demo(home, ports_in_a_row(PORTS), "dev") as started:
            running = json.loads((home / "running.json").read_text())
            assert {"ingress", "storage", "egress", "application", "gateway"} <= set(running)
            await look(started, tmp_path / "page.png")
            (power,) = started.latest(key="meter1/power")
            assert power["value"] is not None
        assert processes_of(home) == []
        assert (home / "stack" / "kafka" / "data").exists()
        await asyncio.to_thread(reset, home)
        assert not home.exists()
    assert (tmp_path / "page.png").stat().st_size > 10_000
