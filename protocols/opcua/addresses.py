"""Where a point is: a node id, a way of browse names, or both; no I/O."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

MAX_STEPS: Final = 64
_FORM: Final = re.compile(
    r"(?:ns=(?P<ns>\d{1,5});|nsu=(?P<uri>[^;]+);)?(?P<id>[isgb]=.+)", re.DOTALL
)
_GUID: Final = re.compile(r"g=[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER: Final = re.compile(r"i=\d{1,10}")
_BYTES: Final = re.compile(r"b=[A-Za-z0-9+/]*={0,2}")
_STEP: Final = re.compile(r"(?:(\d{1,5}):)?((?:[^/&]|&.)+)", re.DOTALL)


class AddressWrong(ValueError):
    """What was written is no node id, path or index."""


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node id whose namespace is a URI or a number of the server's own; `id` is `s=…`, `i=…`."""

    id: str
    namespace: int = 0
    uri: str | None = None

    def text(self, namespace: int | None = None) -> str:
        """Write the id with its namespace as a number."""
        number = self.namespace if namespace is None else namespace
        return f"ns={number};{self.id}" if number else self.id


@dataclass(frozen=True, slots=True)
class Step:
    """One browse name on a way; any namespace will do if none is said."""

    name: str
    namespace: int | None = None

    def fits(self, name: str, namespace: int) -> bool:
        """Tell whether a browse name is this step."""
        return self.name == name and self.namespace in {None, namespace}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one point is; at least one of `node` and `path` is there."""

    node: NodeName | None
    path: tuple[Step, ...] = ()
    index: str | None = None


def parse_address(node: str | None, path: str | None, index: str | None = None) -> Address:
    """Read what an installer wrote; raises `AddressWrong`."""
    if node is None and path is None:
        msg = "needs node or path"
        raise AddressWrong(msg)
    name = parse_node_name(node) if node is not None else None
    return Address(name, parse_path(path) if path is not None else (), index)


def parse_node_name(text: str) -> NodeName:
    """Read a node id as the specification writes it (Part 6, 5.1.12); raises `AddressWrong`."""
    found = _FORM.fullmatch(text)
    if found is None or not _is_id(found["id"]) or int(found["ns"] or 0) > 65_535:
        msg = f"{text!r} is no node id; write ns=2;s=NAME, ns=2;i=NUMBER or nsu=URI;s=NAME"
        raise AddressWrong(msg)
    uri = None if found["uri"] is None else unquote(found["uri"])
    return NodeName(found["id"], int(found["ns"] or 0), uri)


def parse_path(text: str) -> tuple[Step, ...]:
    """Read a way of browse names from the root; `&` escapes, as in Part 4, A.2."""
    parts = re.findall(r"/((?:[^/&]|&.)+)", text, re.DOTALL)
    whole = "".join(f"/{part}" for part in parts)
    if not parts or whole != text or len(parts) > MAX_STEPS:
        msg = f"{text!r} is no path; write /Objects/FOLDER/NAME, at most {MAX_STEPS} names"
        raise AddressWrong(msg)
    return tuple(_step(part) for part in parts)


def write_path(names: list[str]) -> str:
    """Write browse names as a path that `parse_path` reads back."""
    return "".join("/" + re.sub(r"([/&:])", r"&\1", name) for name in names)


def write_uri(uri: str) -> str:
    """Write a namespace as the start of a node id."""
    return "nsu=" + uri.replace("%", "%25").replace(";", "%3B") + ";"


def _step(part: str) -> Step:
    found = _STEP.fullmatch(part)
    if found is None:
        msg = f"{part!r} is no browse name"
        raise AddressWrong(msg)
    number = None if found[1] is None else int(found[1])
    return Step(re.sub(r"&(.)", r"\1", found[2], flags=re.DOTALL), number)


def _is_id(text: str) -> bool:
    forms = {"i": _NUMBER, "g": _GUID, "b": _BYTES}
    form = forms.get(text[0])
    if form is None:
        return True
    return form.fullmatch(text) is not None and (text[0] != "i" or int(text[2:]) < 1 << 32)
