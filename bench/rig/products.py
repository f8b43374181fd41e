"""The products that are measured: how each is set up to read a layout and to bring it to its sink.

Each is set up as its documentation says for a reading a second: not to lose by choice (MQTT QoS 1),
to send every second at the latest, and with its usual settings else. `is_durable` is the same with
the store on disk that the product offers and does not use of itself.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from compileall import compile_dir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.rig import install
from bench.rig.layout import INTERVAL_S, Layout
from bench.rig.link import LinkSink
from bench.rig.ports import HOST
from bench.rig.readings import Name
from edge.enrolment import IDENTITY_FILE, ROOTS_FILE
from shared import pki

REPOSITORY: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Command:
    """How a product is started."""

    words: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A product that publishes on a broker; `set_up` writes its files into a folder."""

    name: str
    version: str
    topics: Sequence[str]
    parse: Callable[[bytes], Iterator[Name]]
    set_up: Callable[[Path, Layout, int, int], Command]
    """With the folder, the layout, the port of the fleet and that of the broker."""


def spine(
    folder: Path,
    layout: Layout,
    port: int,
    sink: LinkSink,
    more: Sequence[Mapping[str, Any]] = (),
) -> Command:
    """Set up our own gateway, enrolled at a sink; `more` devices beside those of the layout.

    Its modules are compiled before, as those of an installed package are.
    """
    for package in ("edge", "protocols", "shared"):
        compile_dir(REPOSITORY / package, quiet=2)
    data = folder / "data"
    data.mkdir(parents=True)
    key, csr = pki.make_key_and_csr()
    certificate = pki.issue_gateway(sink.root, csr, "rig", "gateway")
    pki.write_private(data / IDENTITY_FILE, key + certificate)
    pki.write_private(data / ROOTS_FILE, sink.root.pem)
    config = {
        "gateway": {
            "data": str(data),
            "clock": "trusted",  # else readings wait where the kernel knows of no time server
            "health": {"port": 0},
            "log": {"level": "warning"},
        },
        "central": {"link": f"wss://{HOST}:{sink.port}/link", "enrol": f"https://{HOST}:1"},
        "devices": [*modbus_devices(layout, port), *more],
    }
    (folder / "gateway.yaml").write_text(json.dumps(config), "utf-8")
    words = [sys.executable, "-m", "edge", "run", "--config", str(folder / "gateway.yaml")]
    return Command(words, {"PYTHONPATH": str(REPOSITORY)})


def modbus_devices(layout: Layout, port: int) -> list[dict[str, Any]]:
    """List the units of a layout as devices of `gateway.yaml`."""
    return [
        {
            "name": f"u{unit}",
            "driver": "modbus",
            "interval_s": INTERVAL_S,
            "options": {"host": HOST, "port": port, "unit": unit},
            "points": [
                {"key": f"u{unit}/p{nth}", "source": {"register": 2 * nth, "type": "uint32"}}
                for nth in range(layout.points)
            ],
        }
        for unit in layout.units
    ]


def telegraf(*, is_durable: bool = False) -> Peer:
    """Describe Telegraf; durable: its disk buffer, which it calls experimental."""

    def set_up(folder: Path, layout: Layout, port: int, sink_port: int) -> Command:
        config = folder / "telegraf.conf"
        config.write_text(_telegraf_conf(folder, layout, port, sink_port, is_durable), "utf-8")
        return Command([str(install.telegraf()), "--config", str(config)])

    return Peer("telegraf", install.TELEGRAF, ["telegraf/#"], _line_protocol, set_up)


def _telegraf_conf(
    folder: Path, layout: Layout, port: int, sink_port: int, is_durable: bool
) -> str:
    disk = f'buffer_strategy = "disk"\n  buffer_directory = "{folder}/buffer"\n'
    fields = ", ".join(
        f'{{ address={2 * nth}, name="p{nth}", type="UINT32" }}' for nth in range(layout.points)
    )
    requests = "".join(
        f"""
  [[inputs.modbus.request]]
    slave_id = {unit}
    byte_order = "ABCD"
    register = "holding"
    fields = [{fields}]
"""
        for unit in layout.units
    )
    return f"""
[agent]
  quiet = true
  interval = "{INTERVAL_S}s"
  flush_interval = "1s"
  omit_hostname = true
  {disk if is_durable else ""}
[[outputs.mqtt]]
  servers = ["tcp://{HOST}:{sink_port}"]
  topic = "telegraf/{{{{ .PluginName }}}}"
  qos = 1
  data_format = "influx"
  startup_error_behavior = "retry"
[[inputs.modbus]]
  name = "fleet"
  startup_error_behavior = "retry"
  controller = "tcp://{HOST}:{port}"
  timeout = "1s"
  configuration_type = "request"
{requests}"""


def _line_protocol(payload: bytes) -> Iterator[Name]:
    for line in payload.decode().splitlines():
        tags, fields, _ = line.split(" ")
        unit = int(tags.partition("slave_id=")[2].partition(",")[0])
        for each in fields.split(","):
            name, _, value = each.partition("=")
            yield unit, int(name.removeprefix("p")), int(value.rstrip("iu"))


def thingsboard(*, is_durable: bool = False) -> Peer:
    """Describe ThingsBoard's gateway; durable: its SQLite store instead of its memory."""

    def set_up(folder: Path, layout: Layout, port: int, sink_port: int) -> Command:
        config = folder / "config"
        config.mkdir()
        storage = {"type": "memory", "read_records_count": 100, "max_records_count": 100_000}
        if is_durable:
            storage = {"type": "sqlite", "data_file_path": f"{folder}/store/"}
        documents = {
            "tb_gateway.json": _thingsboard_json(sink_port, storage),
            "modbus.json": {"master": {"slaves": _slaves(layout, port)}},
            "logs.json": _LOGS,
        }
        for name, document in documents.items():
            (config / name).write_text(json.dumps(document), "utf-8")
        main = "from thingsboard_gateway.tb_gateway import main; main()"
        words = [str(install.thingsboard()), "-c", main]
        return Command(words, {"TB_GW_CONFIG_DIR": str(config)})

    topics = ["v1/gateway/telemetry"]
    return Peer("thingsboard-gateway", install.THINGSBOARD, topics, _telemetry, set_up)


_LOGS: Final = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {"console": {"class": "logging.StreamHandler", "level": "WARNING"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
    "loggers": {},
}


def _thingsboard_json(sink_port: int, storage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "thingsboard": {
            "host": HOST,
            "port": sink_port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "minPackSendDelayMS": 50,
            "minPackSizeToSend": 500,
            "security": {"type": "accessToken", "accessToken": "rig"},
            "qos": 1,
        },
        "storage": storage,
        "grpc": {"enabled": False},
        "connectors": [{"name": "fleet", "type": "modbus", "configuration": "modbus.json"}],
    }


def _slaves(layout: Layout, port: int) -> list[dict[str, Any]]:
    return [
        {
            "host": HOST,
            "port": port,
            "type": "tcp",
            "method": "socket",
            "unitId": unit,
            "deviceName": f"u{unit}",
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "timeout": 1,
            "pollPeriod": INTERVAL_S * 1_000,
            "timeseries": [
                {
                    "tag": f"p{nth}",
                    "type": "32uint",
                    "functionCode": 3,
                    "objectsCount": 2,
                    "address": 2 * nth,
                }
                for nth in range(layout.points)
            ],
        }
        for unit in layout.units
    ]


def _telemetry(payload: bytes) -> Iterator[Name]:
    for device, rows in json.loads(payload).items():
        for row in rows:
            for name, value in row["values"].items():
                yield int(device.removeprefix("u")), int(name.removeprefix("p")), int(value)
