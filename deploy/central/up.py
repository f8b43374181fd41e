"""Central as it runs in earnest, on this machine: real servers, and a process for each module.

`make up PROFILE=dev` calls it. It starts the servers of the profile, then the modules, starts a
module again that ends by itself, and on Ctrl-C stops all of it in order. The data is kept.
"""

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.central.modules import STOP_ORDER, Module, apart, bring_up, refuse_busy, together
from deploy.central.processes import (
    REPOSITORY,
    Processes,
    run_alone,
    stop_on_signals,
    write_private,
)
from deploy.central.servers import Servers, servers
from deploy.central.supervise import Supervisor

START_S: Final = 120.0
PROFILES: Final = ("local", "dev", "staging", "given")


def main() -> int:
    """Run central until it is asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="local",
        help="local: one process with a database of its own; dev, staging: real servers and six "
        "processes; given: six processes on servers that SPINE_DSN, SPINE_KAFKA, … name",
    )
    parser.add_argument("--port", type=int, default=8080, help="port of the page; seven follow")
    parser.add_argument("--folder", type=Path, help="where data and logs are kept")
    parser.add_argument("--stack", type=Path, help="folder of the servers; else that of make stack")
    chosen = parser.parse_args()
    folder = (chosen.folder or _home(chosen.profile)).resolve()

    def serve(processes: Processes) -> None:
        refuse_busy(chosen.profile, chosen.port)
        with contextlib.ExitStack() as cleanup:
            running = cleanup.enter_context(servers(chosen.profile, chosen.stack, processes.stop))
            cleanup.callback(processes.end, STOP_ORDER)
            _run(processes, chosen.profile, chosen.port, running)

    return run_alone(folder, "central", serve)


def _home(profile: str) -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "spine" / f"central-{profile}"


def _run(processes: Processes, profile: str, port: int, running: Servers) -> None:
    stop_on_signals(processes.stop)
    _say("starting the modules of central …")
    data, env = processes.folder / "central", running.settings
    modules = (together if profile == "local" else apart)(port, data, env)
    bring_up(processes, modules, START_S)
    _print_table(processes, modules)
    _print_next(_write_env(processes.folder, port, data, env))
    print(f"ready: http://127.0.0.1:{port}", flush=True)
    supervisor = Supervisor(processes, [module.name for module in modules], _say)
    while not processes.stop.wait(0.5):
        running.look()
        supervisor.look()
    _say("stopping …")


def _print_table(processes: Processes, modules: Sequence[Module]) -> None:
    rows = [
        (one.name, one.url, str(processes.pid(one.name)), one.serves)
        for one in sorted(modules, key=lambda module: STOP_ORDER.index(module.name))
    ]
    _say(f"{'module':<12} {'answers at':<23} {'pid':<8} serves")
    for name, url, pid, serves in rows:
        _say(f"{name:<12} {url:<23} {pid:<8} {serves}")


def _write_env(folder: Path, port: int, data: Path, env: Mapping[str, str]) -> Path:
    lines = {
        **env,
        "SPINE_DATA": str(data),
        "SPINE_PORT": str(port),
        "SPINE_LINK_PORT": str(port + 1),
        "SPINE_ENROL_PORT": str(port + 2),
        "SPINE_URL": f"http://127.0.0.1:{port}",
    }
    path = folder / "env"
    write_private(path, "".join(f"{name}={shlex.quote(text)}\n" for name, text in lines.items()))
    return path


def _print_next(env: Path) -> None:
    """Tell what a person needs: a login where there is a project, else how to make one."""
    central = f"{os.path.relpath(sys.executable)} -m central"
    _say(f"settings for the commands of central: {env}")
    _say(f"  set -a; . {shlex.quote(str(env))}; set +a")
    login = _try_login(env)
    if login is None:
        _say(f"  {central} setup --project demo")
    else:
        _say(login)
    _say(f"  {central} enrol --project demo --gateway gateway1")
    _say(f"  {central} login --project demo")


def _try_login(env: Path) -> str | None:
    lines = shlex.split(env.read_text())
    variables = dict(line.split("=", 1) for line in lines)
    done = subprocess.run(
        [sys.executable, "-m", "central", "login"],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    return done.stderr.strip() if done.returncode == 0 else None


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
