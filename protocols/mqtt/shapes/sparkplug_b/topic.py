"""Topics of Sparkplug B: `spBv1.0/GROUP/TYPE/EDGE NODE[/DEVICE]`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NAMESPACE: Final = "spBv1.0"


class MessageType(StrEnum):
    """What a message of an edge node is, and what is sent to one."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"
    NCMD = "NCMD"
    DCMD = "DCMD"


_KNOWN: Final = frozenset(MessageType)


@dataclass(frozen=True, slots=True)
class Topic:
    """Whose message it is; `device` is empty where it is the edge node's own."""

    group: str
    type: MessageType
    node: str
    device: str = ""

    def __str__(self) -> str:
        parts = (NAMESPACE, self.group, self.type, self.node, self.device)
        return "/".join(part for part in parts if part)


def parse(topic: str) -> Topic | None:
    """Read a topic; None where it is none of an edge node."""
    parts = topic.split("/")
    if len(parts) not in {4, 5} or parts[0] != NAMESPACE or parts[2] not in _KNOWN:
        return None
    kind = MessageType(parts[2])
    if not all(parts) or (len(parts) == 5) != kind.startswith("D"):
        return None
    return Topic(parts[1], kind, parts[3], parts[4] if len(parts) == 5 else "")
