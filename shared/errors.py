"""The exceptions that cross a package border.

::

    SpineError
    +-- SettingsError        a file or variable is wrong: every problem at once, with its place
    +-- BatchInvalid         sealed bytes break the format (code tells how)
    +-- FrameInvalid         a link frame breaks the protocol (code tells how)
    +-- DriverError
        +-- OptionsWrong     never retried; shown to the installer
        +-- LinkLost         retried with back-off
        +-- Refused          the device answers and says no; retried slowly, alert
"""


class SpineError(Exception):
    """The root of all errors that SPINE raises on purpose."""


class SettingsError(SpineError):
    """Settings or a file are wrong; `problems` lists all of them, each with its place."""

    def __init__(self, source: str, problems: list[str]) -> None:
        """Keep the source's name and every problem found in it."""
        self.source = source
        self.problems = problems
        super().__init__("\n".join([f"{source}: {len(problems)} problem(s)", *problems]))


class BatchInvalid(SpineError):
    """Sealed bytes break the batch format; `code` is stable, `detail` is for people."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep the stable code and the detail."""
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class FrameInvalid(SpineError):
    """A link frame breaks the protocol; `code` is stable, `detail` is for people."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep the stable code and the detail."""
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class DriverError(SpineError):
    """A driver could not do what it was asked."""


class OptionsWrong(DriverError):
    """The device's or point's options cannot work; the installer must change them."""


class LinkLost(DriverError):
    """The connection to the device is gone or does not answer."""


class Refused(DriverError):
    """The device answers and says no (trust, login, session limit)."""
