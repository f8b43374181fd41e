"""The commands that ask the running gateway: what they print, what they change, how they end."""

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from edge.__main__ import app
from tests.integration.api_kit import ServedGateway
from tests.integration.test_api_tools import KEY, gateway, server
from tests.servers.modbus import RegisterServer

__all__ = ["gateway", "server"]


async def spine_edge(gateway: ServedGateway, *words: object) -> tuple[int, str, str]:
    """Run a command in a thread, so that the gateway of this test answers it."""
    config = ("--config", gateway.folder.parent / "gateway.yaml")
    arguments = [str(word) for word in (*words, *config)]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


async def test_the_last_readings_are_listed(gateway: ServedGateway) -> None:
    code, said, _ = await spine_edge(gateway, "points", "set")
    assert code == 0
    assert said.splitlines()[1].split()[:4] == [KEY, "20.5", "°C", "good"]
    code, said, _ = await spine_edge(gateway, "points", "--json")
    assert json.loads(said)[0]["reading"]["value"] == 20.5


async def test_points_go_out_and_come_back_changed(gateway: ServedGateway, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    code, _, _ = await spine_edge(gateway, "export", file)
    assert code == 0
    code, _, complaint = await spine_edge(gateway, "export", file)
    assert (code, "there already" in complaint) == (1, True)
    text = file.read_text("utf-8-sig").replace("°C", "K")
    file.write_text(text, "utf-8")
    code, said, _ = await spine_edge(gateway, "import", file, "--dry-run")
    assert (code, "changed  room/setpoint" in said) == (0, True)
    assert gateway.parts.twin.current.number == 1
    code, said, _ = await spine_edge(gateway, "import", file, "--yes")
    assert (code, "revision 2" in said) == (0, True)
    assert gateway.parts.twin.devices[0].points[0].point.unit == "K"


async def test_invalid_rows_change_nothing_and_are_named(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    file = tmp_path / "points.csv"
    file.write_text("device;key;source.register\nroom;room/x;-4\n", "utf-8")
    code, said, complaint = await spine_edge(gateway, "import", file, "--yes")
    assert (code, "line 2: room/x" in said) == (1, True)
    assert "--skip-invalid" in complaint
    assert gateway.parts.twin.current.number == 1


async def test_a_point_is_written_for_a_while_and_given_back(
    gateway: ServedGateway, server: RegisterServer
) -> None:
    code, said, _ = await spine_edge(gateway, "write", KEY, 21.5, "--by", "Ada", "--for", "15m")
    assert (code, said.splitlines()[-1].split(":")[0], server.tables["holding"][10]) == (
        0,
        "done",
        215,
    )
    code, said, _ = await spine_edge(gateway, "release", KEY, "--by", "Ada")
    assert (code, server.tables["holding"][10]) == (0, 180)
    code, said, _ = await spine_edge(gateway, "write", KEY, 99, "--by", "Ada")
    assert (code, "\nrefused: " in f"\n{said}") == (1, True)
    code, _, complaint = await spine_edge(gateway, "write", KEY, 1, "--by", "Ada", "--for", "soon")
    assert (code, "15m" in complaint) == (2, True)


async def test_a_value_below_zero_is_a_value_and_no_option(gateway: ServedGateway) -> None:
    code, said, complaint = await spine_edge(gateway, "write", KEY, "-3.5", "--by", "Ada")
    assert (code, complaint) == (1, "")
    assert said.splitlines()[-1] == "refused: -3.5 is outside 0 to 40"
    code, _, complaint = await spine_edge(gateway, "write", KEY, 21, "--buy", "Ada")
    assert (code, bool(complaint)) == (2, True)


async def test_a_file_that_cannot_be_written_is_told(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    code, _, complaint = await spine_edge(gateway, "export", tmp_path / "nowhere" / "points.csv")
    assert (code, "nowhere" in complaint) == (1, True)


async def test_log_entries_are_printed(gateway: ServedGateway) -> None:
    gateway.parts.logs.note(None, "warning", {"event": "pump hums", "level": "warning"})
    code, said, _ = await spine_edge(gateway, "logs", "--level", "warning")
    assert (code, "pump hums" in said) == (0, True)


async def test_a_check_out_is_listed_and_written_to_print(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    made = {"title": "Room", "by": "Ada"}
    await gateway.local.post("/api/v1/checkouts", json=made)
    code, said, _ = await spine_edge(gateway, "checkout", "list")
    assert (code, "0/1" in said) == (0, True)
    page = tmp_path / "room.html"
    code, _, _ = await spine_edge(gateway, "checkout", "export", 1, page)
    assert (code, "Room" in page.read_text("utf-8")) == (0, True)


async def test_without_a_gateway_it_is_said_what_is_missing(gateway: ServedGateway) -> None:
    (gateway.folder / "api.sock").unlink()
    code, _, complaint = await spine_edge(gateway, "logs")
    assert (code, "gateway.api.enabled" in complaint) == (1, True)
