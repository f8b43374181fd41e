"""Answers for the command line: from the running gateway, or from its outbox when nobody holds it.

A second process never opens an outbox that is in use.
"""

import asyncio
import json
from dataclasses import asdict
from http.client import HTTPConnection
from typing import Any, Final

from edge.recovery import FILE_NAME, read_outbox
from edge.room import room_text
from edge.settings import GatewayConfig, HealthSettings
from edge.sqlite import OutboxHeld

TIMEOUT_S: Final = 5.0
ANSWER_BYTES: Final = 4 * 1024 * 1024


async def ask(config: GatewayConfig, what: str) -> dict[str, Any]:
    """Answer `ledger` or `status`.

    Raises `OutboxHeld` where a gateway runs and does not answer, FileNotFoundError where there is
    no outbox yet.
    """
    try:
        return await asyncio.to_thread(_from_gateway, config.file.gateway.health, what)
    except (OSError, ValueError):
        return await asyncio.to_thread(_from_file, config, what)


def _from_gateway(health: HealthSettings, what: str) -> dict[str, Any]:
    connection = HTTPConnection(health.host, health.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{what}")
        answer = json.loads(connection.getresponse().read(ANSWER_BYTES))
    finally:
        connection.close()
    return dict(answer)


def _from_file(config: GatewayConfig, what: str) -> dict[str, Any]:
    path = config.data / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"no outbox yet in {config.data}: the gateway has never run")
    try:
        ledger, refused, used_bytes = read_outbox(path)
    except OutboxHeld as error:
        health = config.file.gateway.health
        msg = f"a gateway holds the outbox but does not answer at {health.host}:{health.port}"
        raise OutboxHeld(msg) from error
    books = {**asdict(ledger), "imbalance": ledger.imbalance()}
    if what == "ledger":
        return books
    link = {"connected": False, "problem": "the gateway is not running"}
    names = ("epoch", "seq", "code", "detail", "at_us")
    refusals = [dict(zip(names, row, strict=True)) for row in refused]
    return {
        "link": link,
        "devices": {},
        "refused": refusals,
        "outbox": {
            "used_bytes": used_bytes,
            "queue_age_s": None,
            "days_left": None,
            "written_a_day": None,
        },
        "ledger": books,
    }


def ledger_line(books: dict[str, Any]) -> str:
    """Write the ledger as the one line a person reads."""
    names = ("produced", "delivered", "collapsed", "quarantined", "pending", "gaps")
    line = " ".join(f"{name} {books[name]}" for name in names)
    line += f" IMBALANCE {books['imbalance']}" if books["imbalance"] else ""
    return f"{line}\n{books['room']}" if books.get("room") else line


def status_text(status: dict[str, Any]) -> str:
    """Write the status as lines a person reads."""
    link = status["link"]
    lines = [
        "central   " + ("connected" if link["connected"] else f"not connected: {link['problem']}"),
        "outbox    " + _room_text(status["outbox"]),
        f"refused   {len(status['refused'])} batches in quarantine",
        "ledger    " + ledger_line(status["ledger"]),
    ]
    if "configuration" in status:
        lines.append("config    " + _configuration_text(status["configuration"]))
    for name, device in sorted(status["devices"].items()):
        lines.append(f"device    {name}: {device['state']} {device['problem']}".rstrip())
    return "\n".join(lines)


def _configuration_text(told: dict[str, Any]) -> str:
    text = f"revision {told['revision']} from {told['source']}"
    waiting = [f"{one['number']} from {one['source']}" for one in told["proposals"]]
    text += f"; proposals wait: {', '.join(waiting)}" if waiting else ""
    return "".join([text, *(f"\n  left out: {problem}" for problem in told["problems"])])


def _room_text(room: dict[str, Any]) -> str:
    text = f"{room['used_bytes'] / 1e6:.1f} MB"
    days = room_text(room)
    return f"{text}, {days}" if days else text
