"""How all processes log: structlog to standard error, JSON where a machine reads it."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import Processor

LogFormat = Literal["auto", "json", "console"]

_SECRET_WORDS: Final = frozenset(
    {"password", "secret", "token", "code", "api_key", "private_key", "authorization", "cookie"}
)


def configure(level: str = "info", form: LogFormat = "auto", also: Processor | None = None) -> None:
    """Set up logging once, in `__main__`: `auto` is text on a terminal and JSON elsewhere.

    Fields whose name says they hold a secret are masked, whatever they hold. `also` sees every
    entry as it is written.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    as_text = form == "console" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask_secrets,
            structlog.processors.format_exc_info,
            *([] if also is None else [also]),
            structlog.dev.ConsoleRenderer(colors=True)
            if as_text
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module; only what is serious is ours to show.
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), force=True)


def mask_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the value of every field that is named like a secret."""
    for name in event:
        if name in _SECRET_WORDS:
            event[name] = "***"
    return event


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Give a logger that carries the name of its part."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(part=name)
    return logger
