"""The master key: where it is found, and what it seals."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vault import CREDENTIAL, KEY_FILE, VARIABLE, Vault, VaultClosed
from shared.errors import SettingsError

KEY, OTHER = bytes(range(32)), bytes(32)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 7))
def test_what_was_sealed_opens_unless_one_bit_of_it_is_another(
    text: bytes, at: int, bit: int
) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(text, "a")
    assert vault.open(sealed, "a") == text
    spoilt = bytearray(sealed)
    spoilt[at % len(spoilt)] ^= 1 << bit
    with pytest.raises(VaultClosed):
        vault.open(bytes(spoilt), "a")


def test_it_opens_for_its_purpose_and_key_alone() -> None:
    sealed = Vault(KEY).seal(b"text", "secret a")
    assert sealed != Vault(KEY).seal(b"text", "secret a")
    for vault, purpose in ((Vault(KEY), "secret b"), (Vault(OTHER), "secret a")):
        with pytest.raises(VaultClosed, match="another master key"):
            vault.open(sealed, purpose)
    with pytest.raises(VaultClosed):
        Vault(KEY).open(b"", "secret a")


def test_the_first_look_makes_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    made = Vault.find(tmp_path / "data", environment={})
    path = tmp_path / "data" / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made.key) == 32
    assert Vault.find(tmp_path / "data", environment={}) == made
    assert base64.b64encode(made.key).decode() not in repr(made) + str(made)


def test_environment_goes_before_credential_before_file(tmp_path: Path) -> None:
    named = tmp_path / "elsewhere.key"
    of_file = Vault.find(tmp_path, named, {})
    assert named.exists()
    (tmp_path / CREDENTIAL).write_bytes(base64.b64encode(KEY))
    with_credential = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Vault.find(tmp_path, named, with_credential).key == KEY != of_file.key
    both = {**with_credential, VARIABLE: base64.b64encode(OTHER).decode()}
    assert Vault.find(tmp_path, named, both).key == OTHER
    assert not (tmp_path / KEY_FILE).exists()


@pytest.mark.parametrize(
    "text", ["", "no base64!", "c2hvcnQ=", base64.b64encode(bytes(33)).decode()]
)
def test_a_key_of_another_form_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Vault.find(tmp_path, environment={VARIABLE: text})
    assert not text or text not in str(caught.value)
