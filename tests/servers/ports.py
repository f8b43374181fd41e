"""Ports in a row that are free, below those the system gives out by itself."""

import random
import socket
from contextlib import ExitStack


def ports_in_a_row(count: int) -> int:
    """Give the first of so many free ports in a row."""
    for _ in range(1_000):
        first = random.randrange(20_000, 32_000 - count)
        with ExitStack() as held:
            try:
                for nth in range(count):
                    probe = held.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", first + nth))
            except OSError:
                continue
            return first
    msg = f"no {count} free ports in a row"
    raise AssertionError(msg)
