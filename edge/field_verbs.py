"""The commands that look at devices by themselves: test, scan, browse. Nothing is configured."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge import first_read
from edge.field import discovery
from edge.field.browsing import Browser, Question, SeenPage
from edge.field.connection_test import Outcome, StepReport, check_connection
from edge.field.target import Target, target_in, target_of
from edge.installation import parsed
from edge.settings import Device
from edge.terminal import CONFIG, AsJson, Config, done, fail, loaded, out, say_json
from shared.errors import SpineError

_MARKS: Final = {
    Outcome.OK: ("✓", "green"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.SKIPPED: ("·", "dim"),
}

Name = Annotated[
    str | None, typer.Argument(metavar="DEVICE", help="A device of the configuration.")
]
Driver = Annotated[str, typer.Option(help="Instead of a device: its driver.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--set", help="And its options: host=192.0.2.10; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the gateway's command line."""
    app.command("test")(check)
    for command in (scan, browse):
        app.command()(command)


def check(
    device: Name = None,
    driver: Driver = "",
    values: Values = None,
    point: Annotated[
        list[str] | None,
        typer.Option(help='Options of a point to read: "register=100 type=float32"; repeatable.'),
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Test the way to a device: network, session, identity, test read."""
    target = _target(_Asked(device, driver, values or [], point or []), config)
    console = out()
    report = done(check_connection(target, lambda one: None if as_json else _say(console, one)))
    if as_json:
        say_json({"good": report.is_good, "steps": report.steps})
    elif report.values:
        table = Table("point", "value", "quality", box=None, pad_edge=False)
        for shown in report.values:
            table.add_row(Text(shown.key), Text("" if shown.is_bad else shown.said), shown.words)
        console.print(table)
    raise SystemExit(0 if report.is_good else 1)


def scan(
    driver: Annotated[str, typer.Argument(help="bacnet, modbus, opcua, …")],
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="Where to look: hosts=[192.0.2.0/24]; may be repeated."),
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Look for devices; Ctrl-C stops it and keeps what was found."""
    try:
        search = discovery.search_for(driver, parsed(values or []))
    except SpineError as error:
        fail(error, 2)
    known = list(_configured(config).values())
    found: list[discovery.FoundDevice] = []
    code: Any = 0
    try:
        done(_scanned(search, known, found))
    except SystemExit as ended:
        code = ended.code
    if as_json:
        say_json([{"known_as": one.known_as, "found": one.found} for one in found])
    else:
        _say_found(found)
    raise SystemExit(code)


def browse(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    device: Name = None,
    driver: Driver = "",
    values: Values = None,
    parent: Annotated[str, typer.Option("--in", help="The folder; the top if left out.")] = "",
    most: Annotated[int, typer.Option(min=1, max=100_000, help="List at most so many.")] = 500,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """List what a device has, and which of it is a point already."""
    target = _target(_Asked(device, driver, values or [], []), config)
    known = list(_configured(config).values())
    pages = done(_browsed(target, parent, most, known))
    nodes = [one for page in pages for one in page.nodes]
    if as_json:
        say_json([{"known_as": one.known_as, "node": one.node} for one in nodes[:most]])
        return
    table = Table("", "name", "value", "unit", "source", "point", box=None, pad_edge=False)
    for seen in nodes[:most]:
        node = seen.node
        mark = "▸" if node.has_children else ""
        source = "" if node.source is None else _options(node.source)
        texts = (node.name, node.value, node.unit, source or node.id, seen.known_as)
        table.add_row(mark, *(Text(one) for one in texts))
    out().print(table)
    if pages[-1].cursor or len(nodes) > most:
        typer.echo(f"more than {most}: --most")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command was told of the device to look at."""

    device: str | None
    driver: str
    values: Sequence[str]
    points: Sequence[str]


def _target(asked: _Asked, config: Path) -> Target:
    if (asked.device is None) == (not asked.driver):
        fail("name a device of the configuration, or --driver with --set", 2)
    try:
        points = [
            {"key": f"point{at}", "source": parsed(words.split())}
            for at, words in enumerate(asked.points, 1)
        ]
        if asked.device is None:
            options = parsed(asked.values)
            return target_in({"driver": asked.driver, "options": options, "points": points})
        device = first_read.device_named(loaded(config), asked.device)
        return target_of(device, points or None)
    except SpineError as error:
        fail(error, 2)


def _configured(config: Path) -> Mapping[str, Device]:
    """List what is configured, to mark it; a technician may look before there is a file."""
    return first_read.configured(loaded(config)) if config.exists() else {}


def _say(console: Console, step: StepReport) -> None:
    mark, style = _MARKS[step.outcome]
    took = f"{step.took_ms:,.0f} ms" if step.outcome is not Outcome.SKIPPED else ""
    console.print(Text.assemble((f"{mark} {step.step.value:<9}", style), f"{took:>9}  {step.text}"))
    if step.trouble is not None:
        console.print(Text(f"{'likely':>11}: {step.trouble.cause}"))
        console.print(Text(f"{'try':>11}: {step.trouble.remedy}"))
        console.print(Text(f"{'code':>11}: {step.trouble.code}", style="dim"))


async def _scanned(
    search: discovery.Search, known: Sequence[Device], found: list[discovery.FoundDevice]
) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("looking", total=1.0)

        def note(one: discovery.FoundDevice) -> None:
            found.append(one)
            progress.update(task, description=f"{len(found)} found")

        def advance(share: float) -> None:
            progress.update(task, completed=share)

        await discovery.look(search, lambda: known, advance, note)
        advance(1.0)


def _say_found(found: Sequence[discovery.FoundDevice]) -> None:
    if not found:
        sys.stderr.write("nothing found\n")
        return
    table = Table("device", "reached with", "known as", "facts", box=None, pad_edge=False)
    for one in found:
        facts = ", ".join(f"{name}: {text}" for name, text in one.found.facts.items())
        texts = (one.found.title, _options(one.found.options), one.known_as, facts)
        table.add_row(*(Text(text) for text in texts))
    out().print(table)


def _options(options: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


async def _browsed(
    target: Target, parent: str, most: int, known: Sequence[Device]
) -> list[SeenPage]:
    async with Browser() as browser:
        page = await browser.begin(target, Question(parent, limit=min(most, 200)), known)
        pages = [page]
        while page.cursor and sum(len(one.nodes) for one in pages) < most:
            page = await browser.look(page.session, Question(parent, page.cursor), known)
            pages.append(page)
    return pages
