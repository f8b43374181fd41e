"""The demo: a simulated building, a gateway that reads it, and central, on this machine alone.

`make demo` calls it. Everything binds loopback, the data is kept for the next start, and Ctrl-C
ends all of it. `--profile dev` puts central on Kafka, the registry and TimescaleDB, with a process
for each of its modules. `--reset` throws the data away.
"""

import argparse
import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.central.modules import STOP_ORDER, Module, apart, bring_up, refuse_busy, together
from deploy.central.processes import (
    Command,
    Processes,
    run_alone,
    stop_on_signals,
    write_private,
)
from deploy.central.servers import forget_servers, servers
from deploy.central.supervise import Supervisor
from deploy.local.values import PROJECT, Samples

START_S: Final = {"local": 60.0, "dev": 150.0}
GATEWAY_FIRST: Final = ("prepare", "gateway", "building", *STOP_ORDER)
"""The gateway is stopped first, so that nothing is read that cannot be sent."""


@dataclass(slots=True)
class Demo:
    """A demo in its folder; `settings` lead central to its servers."""

    processes: Processes
    profile: str
    port: int
    settings: Mapping[str, str]
    supervised: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where everything of the demo is."""
        return self.processes.folder

    @property
    def url(self) -> str:
        """Where the page and the API are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """The gateway's configuration file."""
        return self.folder / "gateway" / "gateway.yaml"

    @property
    def devices(self) -> Path:
        """Where the building tells its devices."""
        return self.folder / "devices.yaml"

    @property
    def truth(self) -> Path:
        """Where the building logs what it serves."""
        return self.folder / "truth"

    @property
    def start_s(self) -> float:
        """How long a step of the start may take."""
        return START_S[self.profile]


def main() -> int:
    """Start the demo, or reset it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=tuple(START_S), default="local", help="what runs")
    parser.add_argument("--port", type=int, default=8080, help="port of page and API")
    parser.add_argument("--reset", action="store_true", help="throw the demo's data away")
    parser.add_argument("--folder", type=Path, help="where the data is kept")
    chosen = parser.parse_args()
    folder: Path = (chosen.folder or _home(chosen.profile)).resolve()

    def work(processes: Processes) -> None:
        if chosen.reset:
            _reset(folder)
        else:
            refuse_busy(chosen.profile, chosen.port)
            _serve(processes, chosen.profile, chosen.port)

    return run_alone(folder, "demo", work)


def _home(profile: str) -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "spine" / ("demo" if profile == "local" else f"demo-{profile}")


def _reset(folder: Path) -> None:
    forget_servers(folder / "stack")
    shutil.rmtree(folder, ignore_errors=True)
    print(f"the demo's data is gone: {folder}")


def _serve(processes: Processes, profile: str, port: int) -> None:
    stop = processes.stop
    with contextlib.ExitStack() as cleanup:
        stack = servers(profile, processes.folder / "stack", stop, is_own=True)
        running = cleanup.enter_context(stack)
        cleanup.callback(processes.end, GATEWAY_FIRST)
        stop_on_signals(stop)
        demo = Demo(processes, profile, port, running.settings)
        _start(demo)
        supervisor = Supervisor(processes, demo.supervised, _say)
        while not stop.wait(1.0):
            processes.check_alive(but=demo.supervised)
            running.look()
            supervisor.look()
        _say("stopping …")


def _start(demo: Demo) -> None:
    started_s = time.monotonic()
    _say("starting central and the building (Modbus, OPC UA, MQTT) …")
    _start_building(demo)
    if demo.profile == "local":
        [central] = together(demo.port, demo.folder / "central", demo.settings)
        demo.processes.start(central.command)
    else:
        _start_modules(demo, apart(demo.port, demo.folder / "central", demo.settings))
    _prepare(demo)
    _say("central has the project and the gateway's certificate")
    demo.processes.wait("no building", (demo.truth / "building.json").exists, demo.start_s)
    _configure(demo)
    arguments = ("-m", "edge", "run", "--config", str(demo.config))
    demo.processes.start(Command("gateway", arguments))
    _say("the gateway reads; waiting for live values …")
    key = (demo.folder / "key").read_text().strip()
    _await_values(demo, key)
    env = _write_env(demo, key)
    token = (demo.folder / "login").read_text().strip()
    _say(f"live after {time.monotonic() - started_s:.1f} s; data in {demo.folder}; Ctrl-C ends it")
    print(f"ready: {demo.url}/login?token={token}", flush=True)
    print(f"env: {env}", flush=True)


def _start_building(demo: Demo) -> None:
    (demo.truth / "building.json").unlink(missing_ok=True)
    where = ("--truth", str(demo.truth), "--config", str(demo.devices))
    demo.processes.start(Command("building", ("-m", "protocols.simulated", *where)))


def _start_modules(demo: Demo, modules: Sequence[Module]) -> None:
    bring_up(demo.processes, modules, demo.start_s)
    demo.supervised += [module.name for module in modules]
    _say(f"{len(modules)} modules are up: {', '.join(demo.supervised)}")


def _prepare(demo: Demo) -> None:
    arguments = ("--folder", str(demo.folder), "--port", str(demo.port))
    env = {**os.environ, **demo.settings}
    demo.processes.start(Command("prepare", ("-m", "deploy.local.prepare", *arguments), env))
    demo.processes.wait(
        "no project", lambda: demo.processes.has_ended_well("prepare"), demo.start_s, "prepare"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _configure(demo: Demo) -> None:
    """Write gateway.yaml: the demo's own settings, and the devices where the building has them."""
    demo.config.parent.mkdir(exist_ok=True, mode=0o700)
    head = {
        "gateway": {"clock": "trusted", "health": {"port": 0}},
        "central": {
            "link": f"wss://127.0.0.1:{demo.port + 1}/link",
            "enrol": f"https://127.0.0.1:{demo.port + 2}",
        },
    }
    # JSON is YAML: what is written here needs no library, which this script has none of.
    lines = [f"{name}: {json.dumps(section)}" for name, section in head.items()]
    demo.config.write_text("\n".join(lines) + "\n" + demo.devices.read_text())


def _await_values(demo: Demo, key: str) -> None:
    samples = Samples(demo.url, key)

    def are_live() -> bool:
        for protocol in list(samples.look()):
            _say(f"  {protocol}: live")
        return samples.are_live()

    demo.processes.wait(samples, are_live, demo.start_s)


def _write_env(demo: Demo, key: str) -> Path:
    env = demo.folder / "env"
    lines = {
        "SPINE_URL": demo.url,
        "SPINE_PROJECT": PROJECT,
        "SPINE_API_KEY": key,
        "SPINE_TRUTH": str(demo.truth),
    }
    write_private(env, "".join(f"{name}={value}\n" for name, value in lines.items()))
    return env


if __name__ == "__main__":
    raise SystemExit(main())
