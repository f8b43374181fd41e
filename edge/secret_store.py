"""The secrets of the configuration: kept sealed, told to drivers alone.

A document that comes in with a password in the clear is kept with `{"secret": "name"}` instead.
The name ends with a mark of the value, so that the same document always has the same hash, and an
undo finds the password of its time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.config_store import ConfigStore
from edge.document import devices_in
from edge.hidden import REFERENCE, Place, in_document, reference_of
from edge.settings import Device
from edge.vault import Vault, VaultClosed
from shared.errors import SpineError
from shared.settings import Problem

NAME: Final = re.compile(r"[A-Za-z0-9_\-./]{1,200}")
MOST: Final = 64 * 1024
"""The most characters of a secret."""


class SecretRefused(SpineError):
    """A secret has a name or value that cannot be kept."""


@dataclass(slots=True)
class Secrets:
    """What is sealed in the configuration database; all of it blocks."""

    store: ConfigStore
    vault: Vault

    def put(self, name: str, value: str) -> None:
        """Keep a secret; one of this name gives way. Raises `SecretRefused`, `ConfigUnwritable`."""
        if not NAME.fullmatch(name):
            raise SecretRefused("the name of a secret is 1 to 200 of A-Z a-z 0-9 _ - . /")
        if not value or len(value) > MOST:
            raise SecretRefused(f"a secret has 1 to {MOST} characters")
        sealed = self.vault.seal(value.encode(), f"secret {name}")
        with self.store.writing() as db:
            db.table("secrets").upsert({"name": name, "sealed": sealed}, pk="name")

    def get(self, name: str) -> str | None:
        """Open a secret; None where there is none. Raises `VaultClosed`."""
        found = self.store.rows("SELECT sealed FROM secrets WHERE name = ?", [name])
        if not found:
            return None
        return self.vault.open(bytes(found[0]["sealed"]), f"secret {name}").decode()

    def names(self) -> list[str]:
        """List the names of the secrets."""
        return [row["name"] for row in self.store.rows("SELECT name FROM secrets ORDER BY name")]

    def everything(self) -> dict[str, str]:
        """Open all secrets, for a backup. Raises `VaultClosed`."""
        opened = {name: self.get(name) for name in self.names()}
        return {name: value for name, value in opened.items() if value is not None}

    def concealed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Take the secrets out of a document, keep them, and refer to them instead."""
        known = set(self.names())

        def conceal(value: Any, place: Place) -> Any:
            if not isinstance(value, str) or not 0 < len(value) <= MOST:
                return value
            name = self._name(document, place, value)
            if name not in known:
                self.put(name, value)
                known.add(name)
            return {REFERENCE: name}

        return in_document(document, conceal)

    def _name(self, document: Mapping[str, Any], place: Place, value: str) -> str:
        device = document["devices"][place[1]].get("name")
        words = (device, *place[2:])
        start = ".".join(re.sub(r"[^A-Za-z0-9_\-]", "_", str(one)) for one in words)[:160]
        return f"{start}.{self.vault.mark('secret', value.encode()).hex()[:12]}"

    def revealed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Put the secrets in; a reference to none stays as it is."""

        def reveal(value: Any, _: Place) -> Any:
            name = reference_of(value)
            try:
                secret = None if name is None else self.get(name)
            except VaultClosed:
                secret = None
            return value if secret is None else secret

        return in_document(document, reveal)

    def missing(self, document: Mapping[str, Any]) -> list[Problem]:
        """Find the references that lead to no secret, and what is too long to be one."""
        found: list[Problem] = []

        def look(value: Any, place: Place) -> Any:
            name = reference_of(value)
            problem = "" if name is None else self._problem(name)
            if isinstance(value, str) and len(value) > MOST:
                problem = f"a secret has at most {MOST} characters"
            if problem:
                found.append(Problem(place, problem))
            return value

        in_document(document, look)
        return found

    def devices_in(self, document: Mapping[str, Any]) -> tuple[tuple[Device, ...], list[Problem]]:
        """Make the devices of a stored document, secrets put in; see `edge.document`."""
        return devices_in(self.revealed(document), self.missing(document))

    def _problem(self, name: str) -> str:
        try:
            return f"no secret {name!r} is kept here: set it" if self.get(name) is None else ""
        except VaultClosed as error:
            return f"the secret {name!r} cannot be opened: {error}; set it anew"
