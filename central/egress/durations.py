"""ISO 8601 durations of fixed length, as bucket widths. Pure."""

import re
from datetime import timedelta
from typing import Final

PATTERN: Final = r"^P[0-9DTHMS]+$"
"""What a schema can say of the form; `parse_duration` says the rest."""

_FORM: Final = re.compile(
    r"P(?=\d|T\d)(?:(?P<days>\d{1,3})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,4})H)?(?:(?P<minutes>\d{1,5})M)?(?:(?P<seconds>\d{1,6})S)?)?"
)


def parse_duration(text: str) -> timedelta:
    """Read `PT1M`, `PT15M`, `PT1H`, `P1D`, …; years and months have no fixed length.

    Raises ValueError with what is expected.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not a duration like PT1M, PT15M, PT1H or P1D"
        raise ValueError(msg)
    parts = {name: int(number) for name, number in match.groupdict(default="0").items()}
    return timedelta(**parts)
