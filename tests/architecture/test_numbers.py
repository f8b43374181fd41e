"""The house numbers: how large files, functions and classes may be, and what code may not do."""

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("shared", "protocols", "edge", "central")
BANNED_NAMES = {"utils", "helpers", "common", "manager", "util", "helper", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> dict[Path, str]:
    found = (path for name in PACKAGES for path in (REPOSITORY / name).rglob("*.py"))
    return {path.relative_to(REPOSITORY): path.read_text("utf-8") for path in found}


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(text) for path, text in sources().items()}


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            yield path, node


def functions() -> Iterator[tuple[Path, Function]]:
    for path, node in nodes():
        if isinstance(node, Function):
            yield path, node


def lines_of(function: Function) -> int:
    """Count a function's lines without its docstring."""
    last = function.end_lineno or function.lineno
    body = function.body
    first = body[0]
    if ast.get_docstring(function) is not None:
        if len(body) == 1:
            return 1
        return last - (first.end_lineno or first.lineno)
    return last - first.lineno + 1


def test_files_are_short() -> None:
    lengths = {path: text.count("\n") for path, text in sources().items()}
    filled = [length for length in lengths.values() if length > 3]
    assert {path: length for path, length in lengths.items() if length > 500} == {}
    assert statistics.median(filled) <= 120


def test_functions_are_short() -> None:
    lengths = sorted(lines_of(function) for _, function in functions())
    assert statistics.median(lengths) <= 9
    assert lengths[int(len(lengths) * 0.95)] <= 35


def test_classes_have_few_methods() -> None:
    names = {
        f"{path}:{node.name}": [one.name for one in node.body if isinstance(one, Function)]
        for path, node in nodes()
        if isinstance(node, ast.ClassDef)
    }
    public = {at: sum(not name.startswith("_") for name in found) for at, found in names.items()}
    assert {at: count for at, count in public.items() if count > 15} == {}
    assert {at: len(found) for at, found in names.items() if len(found) > 27} == {}


def test_every_function_is_typed() -> None:
    bare = [
        f"{path}:{function.lineno} {function.name}"
        for path, function in functions()
        if function.returns is None
        or any(
            argument.annotation is None
            for argument in [*function.args.args, *function.args.kwonlyargs]
            if argument.arg not in {"self", "cls"}
        )
    ]
    assert bare == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [path for path in sources() if BANNED_NAMES & set(path.with_suffix("").parts)] == []


def test_nothing_is_global() -> None:
    found = [(path, node) for path, node in nodes() if isinstance(node, ast.Global)]
    assert found == []


def test_nobody_sleeps_or_starts_threads() -> None:
    banned = {"time.sleep", "threading.Thread", "asyncio.Queue()", "queue.Queue()"}
    found = [
        f"{path}:{node.lineno}"
        for path, node in nodes()
        if isinstance(node, ast.Call)
        if ast.unparse(node.func) in banned or ast.unparse(node) in banned
    ]
    assert found == []


def test_every_exemption_gives_its_reason() -> None:
    silent = [
        f"{path}:{number}"
        for path, text in sources().items()
        for number, line in enumerate(text.splitlines(), 1)
        for mark in ("# noqa", "# type: ignore")
        if mark in line and "- " not in line.split(mark)[1] and "#" not in line.split(mark)[1][1:]
    ]
    assert silent == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package: str) -> None:
    silent = [
        path
        for path, tree in trees().items()
        if path.parts[0] == package and path.name == "__init__.py"
        if not ast.get_docstring(tree)
    ]
    assert silent == []
