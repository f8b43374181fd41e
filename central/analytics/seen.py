"""Which batches were counted already, within a bounded memory."""

from collections import OrderedDict

Name = tuple[int, int, int]
"""(gateway, epoch, seq): what names a batch for ever."""


class Seen:
    """Remembers the last `most` batches; the one seen longest ago is forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[Name, None] = OrderedDict()

    def note(self, name: Name) -> bool:
        """Remember a batch; tell whether it is new."""
        is_new = name not in self._names
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        return is_new
