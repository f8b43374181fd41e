"""The start of the configuration: the database, and what `gateway.yaml` says by now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge.config_store import (
    FILE_NAME,
    ConfigDamaged,
    ConfigStore,
    Head,
    Revision,
)
from edge.document import EMPTY, devices_in, hash_of
from edge.proposals import Proposal, keep
from edge.secret_store import Secrets
from edge.settings import Device
from edge.vault import Vault
from shared.clock import Clock
from shared.logs import get

FILE: Final = "file"

_log = get("twin")


def begin(
    path: Path, file: Mapping[str, Any] | None, clock: Clock, vault: Vault | None
) -> tuple[Secrets, Revision]:
    """Open the database and take the file in; gives the revision in force. Blocks.

    Raises `ConfigDamaged`, `ConfigUnwritable` or `SettingsError`.
    """
    vault = vault or Vault.find(path.parent)
    store = ConfigStore(path)
    try:
        kept = Secrets(store, vault)
        store.abandon_pending()
        take_file(store, None if file is None else kept.concealed(file), clock)
        return kept, _current(store)
    except BaseException:
        store.close()
        raise


def _current(store: ConfigStore) -> Revision:
    current = store.current()
    if current is None:
        raise ConfigDamaged("no configuration is in force: this is a defect of the gateway")
    return current


def put_aside(path: Path, clock: Clock) -> Path:
    """Rename a damaged database; tells the new name."""
    aside = path.with_name(f"config-damaged-{clock.now_us()}.db")
    path.rename(aside)
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    return aside


def take_file(store: ConfigStore, file: Mapping[str, Any] | None, clock: Clock) -> None:
    """Take in what `gateway.yaml` says: the first revision, a newer one, or a proposal."""
    current = store.current()
    if current is None:
        document = EMPTY if file is None else file
        _put(store, document, "first start", 0, clock)
    elif file is not None and hash_of(file).hex() != store.fact("file"):
        _take_changed_file(store, current, file, clock)
    if file is not None and hash_of(file).hex() != store.fact("file"):
        store.note({"file": hash_of(file).hex()})


def _take_changed_file(
    store: ConfigStore, current: Revision, file: Mapping[str, Any], clock: Clock
) -> None:
    if hash_of(file) == current.hash:
        return
    if current.source == FILE:
        _put(store, file, "gateway.yaml was changed", current.number, clock)
        return
    proposal = Proposal(
        0,
        current.number,
        hash_of(file),
        file,
        FILE,
        "gateway.yaml was changed, but the gateway has newer changes of its own",
        clock.now_us(),
    )
    number = keep(store, proposal).number
    _log.warning(
        "gateway.yaml was changed, but newer changes are in force: it waits as a proposal",
        proposal=number,
        in_force=current.number,
        source=current.source,
    )


def _put(
    store: ConfigStore, document: Mapping[str, Any], reason: str, previous: int, clock: Clock
) -> None:
    central = 0
    if previous and (last := store.revision(previous)) is not None:
        central = last.head.central
    head = Head(
        0, hash_of(document), FILE, reason, clock.now_us(), previous=previous, central=central
    )
    store.promote(store.add(Revision(head, document)).number)


def stored(folder: Path, vault: Vault) -> tuple[Secrets, Revision] | None:
    """Open the configuration of a gateway, running or not; None before its first start. Blocks.

    The caller closes `Secrets.store`.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    store = ConfigStore(path)
    try:
        return Secrets(store, vault), _current(store)
    except BaseException:
        store.close()
        raise


def devices_at_rest(
    folder: Path, file: Mapping[str, Any] | None, vault: Vault
) -> dict[str, Device]:
    """Read the devices in force and, over them, those of `gateway.yaml`. Blocks."""
    found = stored(folder, vault)
    if found is None:
        return {one.name: one for one in devices_in(file or EMPTY)[0]}
    secrets, current = found
    with secrets.store:
        devices = [
            *secrets.devices_in(current.document)[0],
            *secrets.devices_in(file or EMPTY)[0],
        ]
    return {one.name: one for one in devices}
