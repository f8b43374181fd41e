"""What SQLite's errors mean for the outbox."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from shared.errors import SpineError


class OutboxError(SpineError):
    """The outbox file cannot be used as asked."""


class OutboxHeld(OutboxError):
    """Another process has the file: the gateway is running."""


class OutboxFull(OutboxError):
    """The disk has no room; nothing was written, and it can be tried again."""


class OutboxBroken(OutboxError):
    """The disk failed to write or sync; the file must be opened afresh before it is trusted."""


class OutboxDamaged(OutboxError):
    """The file is not a sound outbox."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite raises as an error of the outbox."""
    try:
        yield
    except apsw.Error as error:
        raise _meaning(error) from error
    except UnicodeDecodeError as error:
        raise OutboxDamaged(f"the outbox file is damaged: {error}") from error


def _meaning(error: apsw.Error) -> Exception:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return OutboxHeld("the outbox is held by a running gateway: ask it, or stop it")
    if isinstance(error, apsw.FullError):
        return OutboxFull("the disk is full: free some space; nothing was lost")
    if isinstance(error, _DAMAGE) or getattr(error, "extendedresult", 0) in _UNREADABLE:
        return OutboxDamaged(f"the outbox file is damaged: {error}")
    if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError | apsw.PermissionsError):
        return OutboxBroken(f"the outbox file cannot be opened for writing: {error}")
    if isinstance(error, apsw.IOError):
        return OutboxBroken(f"the disk failed: {error}")
    return error


_DAMAGE: Final = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    # All statements are fixed: if one does not fit, the schema or a row is not what we wrote.
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
)
_UNREADABLE: Final = (
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
)
