"""Commands that ask the running gateway: points, export and import, writing, logs, check-outs."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.local_api import LocalApi, NotAnswered
from edge.terminal import CONFIG, INTERRUPTED, AsJson, Config, fail, loaded, out, say_json

WATCHED_S: Final = 1.0
FOLLOWED_S: Final = 1.0
LISTED: Final = 20

_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

checkouts = typer.Typer(no_args_is_help=True, help="Point-to-point check-outs.")

By = Annotated[str, typer.Option("--by", help="Who asks.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the gateway's command line."""
    app.command("import")(import_points)
    for command in (points, export, release, logs):
        app.command()(command)
    # Else a value below zero would be taken for an option.
    app.command(context_settings={"ignore_unknown_options": True})(write)
    app.add_typer(checkouts, name="checkout")


def points(
    keys: Annotated[
        list[str] | None, typer.Argument(help="Only keys that hold one of these.")
    ] = None,
    config: Config = CONFIG,
    watch: Annotated[bool, typer.Option(help="Go on, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the last reading of each point."""
    api = _api(config)
    found = _found(api, keys or [])
    if as_json:
        say_json(found)
        return
    if not watch:
        out().print(_readings(found))
        return
    try:
        with Live(_readings(found), console=out()) as screen:
            while True:
                _pause(WATCHED_S)
                screen.update(_readings(_found(api, keys or [])))
    except KeyboardInterrupt:
        fail("stopped", INTERRUPTED)


def export(
    file: Annotated[Path, typer.Argument(help="points.csv or points.xlsx; never overwritten.")],
    config: Config = CONFIG,
) -> None:
    """Write all points into a file, which `import` takes back."""
    name = "points.xlsx" if file.suffix == ".xlsx" else "points.csv"
    _written(file, _asked(lambda: _api(config).file(f"/{name}")))


def import_points(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    file: Annotated[Path, typer.Argument(help="CSV, XLSX, or an EDE object list.")],
    config: Config = CONFIG,
    device: Annotated[str, typer.Option(help="Device, where the file names none.")] = "",
    ede: Annotated[bool, typer.Option(help="The file is an EDE object list.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option(help="Do not ask.")] = False,
    remove_gone: Annotated[bool, typer.Option(help="Remove points that it does not name.")] = False,
    skip_invalid: Annotated[bool, typer.Option(help="Leave invalid rows out.")] = False,
) -> None:
    """Take points from a file, as one change that can be undone; what changes is shown first."""
    api = _api(config)
    query = urlencode({"format": "ede" if ede else "table", "device": device})
    run = _asked(lambda: api.send(f"/imports?{query}", file.read_bytes()))
    for line in _changes(run):
        typer.echo(line)
    if run["counts"]["invalid"] and not skip_invalid:
        fail("nothing was changed: mend the rows, or leave them out with --skip-invalid", 1)
    if dry_run:
        return
    if not yes and not typer.confirm("Apply this?"):
        fail("nothing was changed", 1)
    given = {"remove_gone": remove_gone, "skip_invalid": skip_invalid}
    made = _asked(lambda: api.post(f"/imports/{run['id']}/apply", given))
    typer.echo(f"revision {made['number']} is in force")


def write(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    point: Annotated[str, typer.Argument(help="Key of the point.")],
    value: Annotated[str, typer.Argument(help="Value, in the unit of the point.")],
    by: By,
    config: Config = CONFIG,
    length: Annotated[
        str, typer.Option("--for", help="Given back after so long: 90s, 15m, 2h.")
    ] = "",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Write a point that may be written, once, and say what became of it."""
    given = {"point": point, "value": _value(value), "actor": by, "reason": reason}
    lease = {"lease_s": _length(length)} if length else {}
    _told(_asked(lambda: _api(config).post("/commands", {**given, **lease})), as_json=as_json)


def release(
    point: Annotated[str, typer.Argument(help="Key of the point.")],
    by: By,
    config: Config = CONFIG,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give back what people on site hold of a point."""
    given = {"point": point, "actor": by, "reason": reason}
    _told(_asked(lambda: _api(config).post("/commands/release", given)), as_json=as_json)


def logs(
    config: Config = CONFIG,
    level: Annotated[str, typer.Option(help="debug, info, warning, error or critical.")] = "info",
    device: Annotated[str, typer.Option(help="Only entries that speak of this device.")] = "",
    follow: Annotated[bool, typer.Option(help="Go on, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the last log entries of the running gateway."""
    api = _api(config)
    wanted: dict[str, Any] = {"level": level, "device": device}
    try:
        while True:
            query = urlencode(wanted)
            part = _asked(lambda query=query: api.get(f"/logs?{query}"))
            _print_entries(part["entries"], as_json=as_json)
            if not follow:
                return
            wanted["cursor"] = part["cursor"]
            _pause(FOLLOWED_S)
    except KeyboardInterrupt:
        fail("stopped", INTERRUPTED)


@checkouts.command("list")
def list_checkouts(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """List the check-outs, newest first."""
    found = _asked(lambda: _api(config).get("/checkouts"))["checkouts"]
    if as_json:
        say_json(found)
        return
    table = Table("number", "title", "by", "done", "failed", "closed", box=None, pad_edge=False)
    for one in found:
        progress = one["progress"]
        texts = (str(one["number"]), one["title"], one["by"])
        done = f"{progress['done']}/{progress['total']}"
        rest = (done, str(progress["failed"]), one["closed_at"] or "open")
        table.add_row(*(Text(text) for text in (*texts, *rest)))
    out().print(table)


@checkouts.command("export")
def export_checkout(
    number: Annotated[int, typer.Argument(help="Number of the check-out.")],
    file: Annotated[Path, typer.Argument(help="*.csv, or *.html to print; never overwritten.")],
    config: Config = CONFIG,
) -> None:
    """Write a check-out into a file."""
    kind = "html" if file.suffix in {".html", ".htm"} else "csv"
    _written(file, _asked(lambda: _api(config).file(f"/checkouts/{number}/checkout.{kind}")))


def _api(config: Path) -> LocalApi:
    return LocalApi(loaded(config).data)


def _asked(ask: Any) -> Any:
    try:
        return ask()
    except (NotAnswered, OSError) as error:
        fail(error, 1)


def _found(api: LocalApi, keys: list[str]) -> list[dict[str, Any]]:
    found = []
    for search in keys or [""]:
        cursor = ""
        while cursor is not None:
            query = f"/points?search={quote(search)}&cursor={quote(cursor)}&limit=1000"
            page = _asked(lambda query=query: api.get(query))
            found += page["points"]
            cursor = page["cursor"]
    return list({one["key"]: one for one in found}.values())


def _readings(found: list[dict[str, Any]]) -> Table:
    table = Table("point", "value", "unit", "quality", "read at", box=None, pad_edge=False)
    for one in found:
        told = one["reading"] or {"value": None, "quality_text": "not read yet", "observed_at": ""}
        value = "" if told["value"] is None else _said(told["value"])
        unit = one["point"].get("unit", "")
        texts = (one["key"], value, unit, told["quality_text"], told["observed_at"][:19])
        table.add_row(*(Text(text) for text in texts))
    return table


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def _changes(run: dict[str, Any]) -> Iterator[str]:
    counts = run["counts"]
    yield ", ".join(f"{count} {name}" for name, count in counts.items())
    for name in ("new", "changed", "gone"):
        for key in run[name][:LISTED]:
            yield f"  {name:8} {key}"
        if counts[name] > LISTED:
            yield f"  {name:8} … and {counts[name] - LISTED} more"
    for one in run["invalid"][:LISTED]:
        yield f"  invalid  line {one['line']}: {one['key']}: {'; '.join(one['reasons'])}"


def _print_entries(entries: list[dict[str, Any]], *, as_json: bool) -> None:
    for one in entries:
        if as_json:
            say_json(one)
            continue
        fields = " ".join(f"{name}={value}" for name, value in one["fields"].items())
        typer.echo(
            f"{one['at'][:19]} {one['level']:8} {one['part']:12} {one['text']} {fields}".rstrip()
        )


def _told(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(made)
    else:
        typer.echo(": ".join(filter(None, [made["state"], made["detail"]])))
    if made["state"] not in {"done", "waiting"}:
        raise SystemExit(1)


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _length(text: str) -> float:
    found = _LENGTH.fullmatch(text)
    if found is None:
        fail(f"--for {text}: write it as 90s, 15m, 2h or 1d", 2)
    return float(found[1]) * _SECONDS[found[2]]


def _written(file: Path, data: bytes) -> None:
    try:
        with file.open("xb") as target:
            target.write(data)
    except FileExistsError:
        fail(f"{file} is there already: choose another name", 1)
    except OSError as error:
        fail(error, 1)
    typer.echo(f"{file}: {len(data):,} bytes")


def _pause(seconds: float) -> None:
    asyncio.run(asyncio.sleep(seconds))
