"""What the demo needs of central before its gateway can start, in one process.

Waits until central answers, then makes the project, an API key, the gateway's certificate and a
one-time login, as an administrator would by central's and the gateway's command lines.
"""

import argparse
import asyncio
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from central import admin
from central.settings import Settings, read
from edge import enrolment
from shared.errors import SpineError
from shared.pki import write_private

PROJECT, SITE, GATEWAY = "demo", "main", "gateway1"
START_S = 60.0


async def prepare(folder: Path, settings: Settings) -> None:
    """Make what is not there yet; a login is made each time."""
    async with asyncio.timeout(START_S):
        while not await asyncio.to_thread(_answers, settings.port):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.1)
    await admin.setup(settings, PROJECT, SITE)
    if not (folder / "key").exists():
        key = await admin.key(settings, PROJECT, "demo")
        write_private(folder / "key", key.answer.encode())
    data = folder / "gateway" / "data"
    if not (data / enrolment.IDENTITY_FILE).exists():
        code = await admin.enrol(settings, PROJECT, SITE, GATEWAY)
        url = f"https://127.0.0.1:{settings.enrol_port}"
        await asyncio.to_thread(enrolment.enrol, url, code.answer, data)
    login = await admin.login(settings, PROJECT)
    write_private(folder / "login", login.answer.encode())


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except (URLError, HTTPException, OSError):
        return False


def main() -> int:
    """Prepare the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    try:
        settings = read(
            data=chosen.folder / "central", port=chosen.port, enrol_port=chosen.port + 2
        )
        asyncio.run(prepare(chosen.folder, settings))
    except (SpineError, TimeoutError) as error:
        print(f"the demo's project could not be made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
