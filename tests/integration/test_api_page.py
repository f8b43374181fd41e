"""The how-to of the local API is run as it is written, and its reference is what the code says."""

import asyncio
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.api_kit import API, served
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import Works, device, document, works

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]

DOCS = Path(__file__).parents[2] / "docs"


def script() -> ModuleType:
    path = DOCS / "reference/make_local_api.py"
    spec = importlib.util.spec_from_file_location("make_local_api", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_the_local_api_is_what_the_code_says() -> None:
    made = script()
    assert made.DOCUMENT.read_text("utf-8") == made.written(made.document())
    assert made.PAGE.read_text("utf-8") == made.page()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_lines_of_the_how_to_do_what_it_says(works: Works, tmp_path: Path) -> None:
    page = (DOCS / "how-to/use-the-local-api.md").read_text("utf-8")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    async with served(tmp_path, document(device("a"))) as gateway:
        ran = await asyncio.create_subprocess_exec(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            lines,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            told, _ = await ran.communicate()
        assert ran.returncode == 0, told.decode()
        listed = (await gateway.local.get(f"{API}/devices")).json()["devices"]
        assert [one["name"] for one in listed] == ["a", "meter2"]
