"""Secrets of the configuration: sealed at rest, shown nowhere, given to drivers alone."""

import logging
from pathlib import Path
from typing import Any

import pytest

from edge.config_store import FILE_NAME
from edge.enrolment import Identity, NotEnrolled
from edge.twin import ConfigRefused, Twin
from edge.vault import Vault
from shared import pki
from shared.clock import SystemClock
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import Works, device, document, site, works

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]

PASSWORD, PIN = "correct-horse-battery-staple", "0815-4711"
CLOCK = SystemClock()


def guarded(name: str = "a", password: Any = PASSWORD, **options: Any) -> dict[str, Any]:
    return device(name, password=password, doors=[{"pin": PIN}], **options)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_password_is_given_to_the_driver_and_kept_and_shown_nowhere(
    works: Works,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path, document(guarded())) as gateway:
        await gateway.polled(works.device("a"))
        assert works.passwords[-2:] == [PASSWORD, PIN]
        options = gateway.twin.current.document["devices"][0]["options"]
        assert set(options["password"]) == set(options["doors"][0]["pin"]) == {"secret"}
        await gateway.twin.apply(document(guarded(speed=2)), source="api", reason="faster")
        bad = document(guarded(speed=77))
        with pytest.raises(ConfigRefused) as caught:
            await gateway.twin.apply(bad, source="api")
        shown = f"{gateway.twin.current} {gateway.twin.history()} {caught.value} {gateway.twin}"
    told = shown + caplog.text + "".join(capfd.readouterr())
    kept = everything_in(tmp_path)
    for secret in (PASSWORD, PIN):
        assert secret not in told
        assert secret.encode() not in kept


async def test_the_same_document_with_its_password_changes_nothing(
    works: Works, tmp_path: Path
) -> None:
    async with site(tmp_path, document(guarded())) as gateway:
        await gateway.polled(works.device("a"))
        await gateway.twin.apply(document(guarded()), source="api")
        await gateway.twin.apply(gateway.twin.current.document, source="api")
        assert gateway.twin.current.number == 1
        assert works.device("a").connections == 1
    # A start with the same file is no change either.
    async with site(tmp_path, document(guarded())) as gateway:
        assert gateway.twin.current.number == 1
        assert gateway.twin.proposals() == []


async def test_an_undo_brings_the_password_of_its_time_back(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, document(guarded())) as gateway:
        await gateway.polled(works.device("a"))
        await gateway.twin.apply(document(guarded(password="new")), source="api")
        await gateway.polled(works.device("a"))
        assert works.passwords[-2] == "new"
        await gateway.twin.undo()
        await gateway.polled(works.device("a"))
        assert works.passwords[-2] == PASSWORD


async def test_a_secret_by_name_is_set_apart_and_only_its_devices_start_anew(
    works: Works, tmp_path: Path
) -> None:
    by_name = document(guarded(password={"secret": "plant"}), device("b"))
    async with site(tmp_path, document(device("b"))) as gateway:
        with pytest.raises(
            ConfigRefused, match=r"devices\[0\].options.password: no secret 'plant'"
        ):
            await gateway.twin.apply(by_name, source="api")
        await gateway.twin.keep_secret("plant", "first")
        await gateway.twin.apply(by_name, source="api")
        await gateway.polled(works.device("a"), works.device("b"))
        assert works.passwords[-2] == "first"
        await gateway.twin.keep_secret("plant", "second")
        await gateway.polled(works.device("a"), works.device("b"))
        assert works.passwords[-2] == "second"
        assert (works.device("a").connections, works.device("b").connections) == (2, 1)
        assert gateway.twin.current.document["devices"][0]["options"]["password"] == {
            "secret": "plant"
        }


@pytest.mark.parametrize(
    ("name", "value"), [("no spaces", "a"), ("", "a"), ("a", ""), ("a" * 201, "a")]
)
async def test_a_secret_that_cannot_be_kept_is_refused(
    works: Works, tmp_path: Path, name: str, value: str
) -> None:
    twin = await Twin.opened(tmp_path, None, CLOCK)
    with pytest.raises(Exception, match=r"secret (is|has)"):
        await twin.keep_secret(name, value)
    await twin.close()


async def test_a_device_whose_secret_cannot_be_opened_is_left_out_and_told(
    works: Works, tmp_path: Path
) -> None:
    file = document(guarded(), device("b"))
    await (await Twin.opened(tmp_path, file, CLOCK, Vault(bytes(32)))).close()
    twin = await Twin.opened(tmp_path, None, CLOCK, Vault(bytes(range(32))))
    assert [one.name for one in twin.devices] == ["b"]
    assert {one.path for one in twin.problems} == {
        "devices[0].options.password",
        "devices[0].options.doors[0].pin",
    }
    assert "another master key" in str(twin.problems[0])
    await twin.close()


async def test_what_is_too_long_for_a_secret_is_refused_and_not_kept_in_the_clear(
    works: Works, tmp_path: Path
) -> None:
    twin = await Twin.opened(tmp_path, None, CLOCK)
    with pytest.raises(ConfigRefused, match=r"options.password: a secret has at most"):
        await twin.apply(document(guarded(password="x" * 70_000)), source="api")
    await twin.close()


async def test_a_proposal_holds_no_password(works: Works, tmp_path: Path) -> None:
    twin = await Twin.opened(tmp_path, document(device("b")), CLOCK)
    await twin.apply(document(device("c")), source="api")
    await twin.close()
    twin = await Twin.opened(tmp_path, document(guarded()), CLOCK)
    (proposal,) = twin.proposals()
    assert PASSWORD not in str(proposal)
    await twin.answer(proposal.number, accept=True)
    assert twin.devices[0].options.password.get_secret_value() == PASSWORD  # type: ignore[attr-defined]  # a fake's
    await twin.close()


def plain_identity(folder: Path) -> tuple[bytes, pki.Root]:
    root = pki.make_root("test")
    key, csr = pki.make_key_and_csr()
    held = key + pki.issue_gateway(root, csr, "demo", "gw1")
    (folder / "identity.pem").write_bytes(held)
    (folder / "roots.pem").write_bytes(root.pem)
    return held, root


def test_a_key_that_was_left_in_the_clear_is_encrypted(tmp_path: Path) -> None:
    held, _ = plain_identity(tmp_path)
    identity = Identity.load(tmp_path)
    kept = (tmp_path / "identity.pem").read_bytes()
    assert pki.is_locked(kept)
    assert b"BEGIN PRIVATE KEY" not in kept
    assert kept.endswith(held[held.index(b"-----BEGIN CERT") :])
    assert (tmp_path / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert pki.unlock_key(kept, identity.password) in held
    identity.link_context()
    # It is encrypted once: the next start leaves it as it is.
    Identity.load(tmp_path).link_context()
    assert (tmp_path / "identity.pem").read_bytes() == kept


def test_an_identity_under_another_master_key_says_what_to_do(tmp_path: Path) -> None:
    plain_identity(tmp_path)
    Identity.load(tmp_path, Vault(bytes(32)))
    with pytest.raises(NotEnrolled, match="another master key"):
        Identity.load(tmp_path, Vault(bytes(range(32))))


def test_a_damaged_identity_says_what_to_do(tmp_path: Path) -> None:
    plain_identity(tmp_path)
    (tmp_path / "identity.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nno key\n")
    with pytest.raises(NotEnrolled, match="enrol with a new code"):
        Identity.load(tmp_path)


def test_a_locked_key_asks_nobody_for_its_password(tmp_path: Path) -> None:
    _, root = plain_identity(tmp_path)
    Identity.load(tmp_path)
    with pytest.raises(OSError, match=r"."):
        pki.client_context(root.pem, tmp_path / "identity.pem")


def test_the_database_is_called_what_the_page_says(tmp_path: Path) -> None:
    assert FILE_NAME == "config.db"
