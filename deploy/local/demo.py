"""The demo: a simulated building, a gateway that reads it, and central, on this machine alone.

`make demo` calls it. Everything binds loopback, the data is kept for the next start, and Ctrl-C
ends all of it. `--reset` throws the data away.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = "demo"
PREPARE: Final = REPOSITORY / "deploy/local/prepare.py"
START_S: Final = 60.0
STOP_S: Final = 15.0
SAMPLES: Final = {"Modbus": "meter1/counter", "OPC UA": "ahu1/counter", "MQTT": "room1/counter"}
"""One point of each protocol; when all three give live values the demo is ready."""


class DemoFailed(Exception):
    """The demo cannot start or go on; the text says what to do."""


@dataclass(slots=True)
class Demo:
    """The demo's folder and the processes it has started."""

    folder: Path
    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the page and the API are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """The gateway's configuration file."""
        return self.folder / "gateway" / "gateway.yaml"

    def start(self, name: str, *arguments: str) -> None:
        """Start a process of ours; what it writes goes to `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pids = {one: process.pid for one, process in self.running.items()}
        (self.folder / "running.json").write_text(json.dumps(pids))

    def has_ended_well(self, name: str) -> bool:
        """Tell whether a process that has an end came to it."""
        if self.running[name].poll() != 0:
            return False
        del self.running[name]
        return True

    def wait(self, what: str, is_true: Callable[[], bool]) -> None:
        """Wait until something is true; fail when it takes too long or a process ends."""
        end_s = time.monotonic() + START_S
        while not is_true():
            self.check_alive()
            if time.monotonic() > end_s:
                raise DemoFailed(f"{what} after {START_S:.0f} s; see the logs in {self.folder}")
            if self.stop.wait(0.1):
                raise KeyboardInterrupt

    def check_alive(self) -> None:
        """Fail with the last lines of its log when a process has ended by itself."""
        for name, process in self.running.items():
            ended = process.poll()
            if ended if name == "prepare" else ended is not None:
                log = self.folder / f"{name}.log"
                last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                raise DemoFailed(f"{name} ended by itself ({process.returncode}); {log}:\n{last}")

    def end(self) -> None:
        """Stop all processes, the gateway first, so that nothing is read that cannot be sent."""
        for name in ("prepare", "gateway", "building", "central"):
            process = self.running.pop(name, None)
            if process is not None:
                _end(process)
        (self.folder / "running.json").unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Start the demo, or reset it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="port of page and API")
    parser.add_argument("--reset", action="store_true", help="throw the demo's data away")
    parser.add_argument("--folder", type=Path, default=_home(), help="where the data is kept")
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = (folder / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"a demo runs already with the data in {folder}: end it first", file=sys.stderr)
        return 1
    _end_leftovers(folder)
    if chosen.reset:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"the demo's data is gone: {folder}")
        return 0
    demo = Demo(folder, chosen.port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: demo.stop.set())
    try:
        return _run(demo)
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        demo.end()


def _home() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "spine" / "demo"


def _end_leftovers(folder: Path) -> None:
    """End what an earlier demo that was killed has left running."""
    with contextlib.suppress(OSError, ValueError):
        left = json.loads((folder / "running.json").read_text())
        for pid in left.values():
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if str(folder).encode() in command:
                os.kill(pid, signal.SIGTERM)
                _gone(pid)


def _gone(pid: int) -> None:
    pause = threading.Event()
    for _ in range(int(STOP_S * 10)):
        if not Path(f"/proc/{pid}").exists():
            return
        pause.wait(0.1)
    os.kill(pid, signal.SIGKILL)


def _run(demo: Demo) -> int:
    demo.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    started_s = time.monotonic()
    truth = demo.folder / "truth"
    (truth / "building.json").unlink(missing_ok=True)
    _say("starting central and the building (Modbus, OPC UA, MQTT) …")
    ports = ("--link-port", str(demo.port + 1), "--enrol-port", str(demo.port + 2))
    data = ("--data", str(demo.folder / "central"), "--port", str(demo.port))
    demo.start("central", "-m", "central", "all", *data, *ports)
    devices = demo.folder / "devices.yaml"
    where = ("--truth", str(truth), "--config", str(devices))
    demo.start("building", "-m", "protocols.simulated", *where)
    folder = ("--folder", str(demo.folder), "--port", str(demo.port))
    demo.start("prepare", str(PREPARE), *folder)
    demo.wait("no project", lambda: demo.has_ended_well("prepare"))
    _say("central has the project and the gateway's certificate")
    demo.wait("no building", (truth / "building.json").exists)
    _configure(demo, devices)
    demo.start("gateway", "-m", "edge", "run", "--config", str(demo.config))
    _say("the gateway reads; waiting for live values …")
    key = (demo.folder / "key").read_text().strip()
    _wait_for_values(demo, key)
    env = _write_env(demo, key, truth)
    token = (demo.folder / "login").read_text().strip()
    _say(f"live after {time.monotonic() - started_s:.1f} s; data in {demo.folder}; Ctrl-C ends it")
    print(f"ready: {demo.url}/login?token={token}", flush=True)
    print(f"env: {env}", flush=True)
    while not demo.stop.wait(1.0):
        demo.check_alive()
    _say("stopping …")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _configure(demo: Demo, devices: Path) -> None:
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
    demo.config.write_text("\n".join(lines) + "\n" + devices.read_text())


def _wait_for_values(demo: Demo, key: str) -> None:
    waiting = dict(SAMPLES)

    def all_flow() -> bool:
        for protocol, at_us in _flowing(demo, key, waiting):
            if at_us > time.time_ns() // 1000 - 10_000_000:
                _say(f"  {protocol}: live")
                del waiting[protocol]
        return not waiting

    demo.wait("no live values of " + ", ".join(SAMPLES), all_flow)


def _flowing(demo: Demo, key: str, wanted: dict[str, str]) -> Iterator[tuple[str, int]]:
    keys = "&".join(f"key={point}" for point in wanted.values())
    answer = _fetched(f"{demo.url}/api/v1/projects/{PROJECT}/latest?{keys}", key) or {}
    found = {reading["key"]: reading for reading in answer.get("readings", [])}
    for protocol, point in list(wanted.items()):
        if point in found:
            yield protocol, _micros(found[point]["observed_at"])


def _micros(text: str) -> int:
    from datetime import datetime  # noqa: PLC0415 - used here alone

    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def _fetched(url: str, key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=5) as answer:  # noqa: S310 - loopback
            return json.loads(answer.read())
    except (URLError, HTTPException, OSError, ValueError):
        return None


def _write_env(demo: Demo, key: str, truth: Path) -> Path:
    env = demo.folder / "env"
    lines = {
        "SPINE_URL": demo.url,
        "SPINE_PROJECT": PROJECT,
        "SPINE_API_KEY": key,
        "SPINE_TRUTH": str(truth),
    }
    _write_private(env, "".join(f"{name}={value}\n" for name, value in lines.items()))
    return env


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


if __name__ == "__main__":
    raise SystemExit(main())
