"""Documents say what the code says: settings, links between pages, commands of the README."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(REPOSITORY.glob("*.md")) + sorted((REPOSITORY / "docs").rglob("*.md"))


def settings_script() -> ModuleType:
    path = REPOSITORY / "docs/reference/make_settings.py"
    spec = importlib.util.spec_from_file_location("make_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_what_the_models_say() -> None:
    script = settings_script()
    assert script.PAGE.read_text("utf-8") == script.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_names_only_commands_that_make_knows() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert set(re.findall(r"`?make ([a-z-]+)", readme)) <= known
