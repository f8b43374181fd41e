"""The span of time a request is about: half-open, completed and checked."""

from datetime import UTC, datetime, timedelta
from typing import Final

from central.problems import ApiProblem

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def span(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Complete and check the span of time. Raises `ApiProblem` 422."""
    try:
        until = end.astimezone(UTC) if end else datetime.now(UTC)
        since = start.astimezone(UTC) if start else until - timedelta(hours=1)
    except OverflowError as error:
        raise ApiProblem(422, "bad_span", "from and to lie between 1970 and 2200") from error
    if not FIRST <= since <= until <= LAST:
        detail = "from must not be after to, and both lie between 1970 and 2200"
        raise ApiProblem(422, "bad_span", detail)
    return since, until
