"""libmodbus, the C stack: a server on it, and the unit-test server that its authors wrote."""

import hashlib
from pathlib import Path
from typing import Final

from deploy.central.native.cache import Cache
from tests.servers.foreign import debian, needs, run

VERSION: Final = "3.1.6"
UNIT: Final = 17
"""Which unit its authors' server is on a serial line."""

_SOURCE: Final = Path(__file__).with_name("libmodbus_server.c")
_EXAMPLES: Final = "usr/share/doc/libmodbus-dev/examples"
_PLACES: Final = (
    ('"127.0.0.1", 1502', '"127.0.0.1", atoi(argv[2])'),
    ('"/dev/ttyUSB0"', "argv[2]"),
)
"""Their server listens at places that are written down in it."""


def server() -> list[str]:
    """Give the command of our server on libmodbus; `tcp PORT` or `rtu DEVICE` follow."""
    return _built("server", _SOURCE.read_text())


def unit_test_server() -> list[str]:
    """Give the command of its authors' server, which misbehaves on purpose; as `server`."""
    theirs = (_library() / _EXAMPLES / "unit-test-server.c").read_text()
    for fixed, told in _PLACES:
        assert fixed in theirs
        theirs = theirs.replace(fixed, told)
    return _built("unit-test", theirs)


def _library() -> Path:
    return debian("libmodbus", VERSION, ("libmodbus-dev", "libmodbus5"))


def _built(name: str, source: str) -> list[str]:
    needs("gcc")
    root = _library()
    library = next(root.rglob("libmodbus.so.5")).parent

    def fill(folder: Path) -> None:
        (folder / "server.c").write_text(source)
        places = ("-I", root / "usr/include/modbus", "-I", root / _EXAMPLES, "-L", library)
        run("gcc", "-O1", "-w", *places, "-o", folder / "server", folder / "server.c", "-lmodbus")

    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    build = f"{VERSION}-{digest}"
    program = Cache.of_user().place(f"libmodbus-{name}", build, fill) / "server"
    return ["env", f"LD_LIBRARY_PATH={library}", str(program)]
