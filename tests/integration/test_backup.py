"""Backup and restore: the whole configuration in one file that only its pass phrase opens."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge import backup
from edge.backup import BackupFailed, Contents, Place
from edge.config_store import FILE_NAME
from edge.enrolment import Identity
from edge.settings import load
from edge.twin import Twin
from edge.vault import Vault
from shared import pki
from shared.clock import SystemClock
from tests.integration.test_gateway_commands import (
    GOOD,
    config,
    edge,
    enrolled,
    free_port,
    running,
    wait_for,
)
from tests.integration.test_secrets import PASSWORD, guarded, plain_identity
from tests.integration.twin_kit import Works, device, document, works

__all__ = ["config", "free_port", "works"]

CLOCK = SystemClock()
PHRASE = "eight or more"
YAML = "central: {link: wss://c:1/link, enrol: https://c:2}\ngateway: {data: data}\n"


async def made(folder: Path, vault: Vault) -> Path:
    """Make a gateway of three revisions with a password and an identity."""
    file, data = folder / "gateway.yaml", folder / "data"
    data.mkdir(parents=True)
    file.write_text(YAML)
    plain_identity(data)
    Identity.load(data, vault)
    twin = await Twin.opened(data, document(device("b")), CLOCK, vault)
    await twin.apply(document(device("c")), source="api")
    await twin.apply(document(guarded()), source="api", central=41)
    await twin.close()
    return file


def taken(file: Path, vault: Vault, *, identity: bool = True) -> Contents:
    return backup.gathered(file, file.parent / "data", vault, CLOCK, identity=identity)


def place(folder: Path, vault: Vault) -> Place:
    folder.mkdir(exist_ok=True)
    return Place(folder / "gateway.yaml", folder / "data", vault)


async def test_another_machine_becomes_the_same_gateway(works: Works, tmp_path: Path) -> None:
    here, there = Vault(bytes(32)), Vault(bytes(range(32)))
    contents = taken(await made(tmp_path / "old", here), here)
    data = backup.sealed(contents, PHRASE)
    assert PASSWORD.encode() not in data
    assert backup.opened(data, PHRASE) == contents
    new = place(tmp_path / "new", there)
    backup.restore(backup.opened(data, PHRASE), new, CLOCK, replace=False)
    twin = await Twin.opened(new.data, None, CLOCK, there)
    assert twin.current.number == 4
    assert twin.agreed.revision == 41
    assert twin.problems == []
    assert twin.devices[0].options.password.get_secret_value() == PASSWORD  # type: ignore[attr-defined]  # a fake's
    await twin.close()
    old_key = Identity.load(tmp_path / "old" / "data", here)
    new_key = Identity.load(new.data, there)
    assert unlocked(old_key) == unlocked(new_key)
    assert new.config.read_text() == YAML


def unlocked(identity: Identity) -> bytes:
    return pki.unlock_key((identity.folder / "identity.pem").read_bytes(), identity.password)


async def test_a_wrong_pass_phrase_and_every_damage_are_refused(
    works: Works, tmp_path: Path
) -> None:
    vault = Vault(bytes(32))
    data = backup.sealed(taken(await made(tmp_path / "old", vault), vault), PHRASE)
    with pytest.raises(BackupFailed, match="pass phrase is wrong, or the backup is damaged"):
        backup.opened(data, "eight or more ")
    draw = random.Random(7)
    for _ in range(24):
        at = draw.randrange(len(data))
        spoilt = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        with pytest.raises(BackupFailed):
            backup.opened(spoilt, PHRASE)
    for length in (0, 10, len(backup.MAGIC), 40, len(data) - 1):
        with pytest.raises(BackupFailed):
            backup.opened(data[:length], PHRASE)
    with pytest.raises(BackupFailed, match="at least 8"):
        backup.sealed(taken(tmp_path / "old" / "gateway.yaml", vault), "short")


async def test_nothing_that_is_there_is_replaced_unless_asked_and_then_it_is_kept(
    works: Works, tmp_path: Path
) -> None:
    vault = Vault(bytes(32))
    contents = taken(await made(tmp_path / "old", vault), vault)
    target = place(tmp_path / "old", vault)
    before = (target.data / FILE_NAME).read_bytes()
    with pytest.raises(BackupFailed, match=r"config\.db.* would be replaced"):
        backup.restore(contents, target, CLOCK, replace=False)
    assert (target.data / FILE_NAME).read_bytes() == before
    done = backup.restore(contents, target, CLOCK, replace=True)
    assert before in [path.read_bytes() for path in done.kept_at]
    assert len(done.kept_at) == 3
    twin = await Twin.opened(target.data, None, CLOCK, vault)
    assert twin.devices[0].name == "a"
    await twin.close()


async def test_a_backup_without_the_identity_leaves_that_of_the_machine(
    works: Works, tmp_path: Path
) -> None:
    vault = Vault(bytes(32))
    contents = taken(await made(tmp_path / "old", vault), vault, identity=False)
    assert (contents.identity, contents.roots) == ("", "")
    target = place(tmp_path / "old", vault)
    before = (target.data / "identity.pem").read_bytes()
    backup.restore(contents, target, CLOCK, replace=True)
    assert (target.data / "identity.pem").read_bytes() == before


def command(config: Path, *words: str, phrase: str = PHRASE) -> subprocess.CompletedProcess[str]:
    file = config.with_name("phrase")
    file.write_text(phrase + "\n")
    return edge(*words, "--config", str(config), "--passphrase", str(file))


def started(config: Path, port: int) -> None:
    enrolled(config)
    with running(config) as gateway:
        wait_for(port, "ledger")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(30) == 0


def test_a_running_gateway_is_backed_up_and_never_overwritten(
    config: Path, free_port: int, tmp_path: Path
) -> None:
    enrolled(config)
    file = tmp_path / "site.spine"
    with running(config):
        wait_for(free_port, "ledger")
        done = command(config, "backup", str(file), "--identity")
        assert (done.returncode, done.stderr) == (0, "")
        assert file.stat().st_mode & 0o777 == 0o600
        again = command(config, "backup", str(file))
        assert (again.returncode, "is there already" in again.stderr) == (1, True)
        back = command(config, "restore", str(file), "--replace")
        assert back.returncode == 1
        assert "the gateway runs" in back.stderr
    wrong = command(config, "restore", str(file), "--replace", phrase="something else")
    assert (wrong.returncode, "pass phrase is wrong" in wrong.stderr) == (1, True)
    back = command(config, "restore", str(file), "--replace")
    assert back.returncode == 0, back.stderr
    with running(config) as gateway:
        answer = wait_for(free_port, "ledger")
        assert gateway.poll() is None
        assert answer["imbalance"] == 0


def test_dump_says_what_is_in_force_without_passwords(config: Path, free_port: int) -> None:
    config.write_text(
        GOOD.format(port=free_port)
        + "  - {name: broker, driver: mqtt, points: [{key: b/a, source: {topic: t}}], options: "
        f"{{host: 127.0.0.1, port: 1, client_id: g, username: u, password: {PASSWORD}}}}}\n"
    )
    before = edge("dump", "--config", str(config))
    assert (before.returncode, before.stderr) == (0, "")
    assert PASSWORD not in before.stdout
    assert "***" in before.stdout
    started(config, free_port)
    after = edge("dump", "--config", str(config))
    assert PASSWORD not in after.stdout
    dumped = config.with_name("dumped.yaml")
    dumped.write_text(after.stdout)
    document: Any = load(dumped).raw
    assert set(document["devices"][1]["options"]["password"]) == {"secret"}
    assert len(load(dumped).devices) == 2


def test_a_secret_is_set_from_the_command_line(config: Path, free_port: int) -> None:
    started(config, free_port)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "secret", "plant/password", "--config", str(config)],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, PASSWORD in done.stdout + done.stderr) == (0, False)
