"""`python -m protocols.simulated`: run the building until SIGTERM or SIGINT."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from protocols.simulated.building import run
from protocols.simulated.settings import BuildingSettings
from shared.errors import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives 0 after a clean stop and 2 if the settings are wrong."""
    logging.basicConfig(level=logging.WARNING, format="building: %(levelname)s %(message)s")
    values = vars(_parser().parse_args(arguments))
    try:
        settings = BuildingSettings.model_validate(
            {name: value for name, value in values.items() if value is not None}
        )
        asyncio.run(_run(settings))
    except ValidationError as error:
        problems = [f"--{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()]
        return _complain(SettingsError("command line", problems))
    except SettingsError as error:
        return _complain(error)
    return 0


async def _run(settings: BuildingSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)


def _parser() -> argparse.ArgumentParser:
    """Make an option of every setting."""
    parser = argparse.ArgumentParser(
        prog="python -m protocols.simulated",
        description="A building of real servers: Modbus TCP, OPC UA and MQTT.",
    )
    for name, field in BuildingSettings.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            parser.add_argument(option, action="store_true", help=field.description)
        else:
            parser.add_argument(option, help=f"{field.description} (default: {field.default})")
    return parser


def _complain(error: SettingsError) -> int:
    sys.stderr.write(f"{error}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
