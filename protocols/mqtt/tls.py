"""Encrypted connections: whom we believe to be the broker, and how we show who we are.

There is no way to believe anybody: either a certificate authority vouches for the broker under its
name, or its own certificate is the pinned one.
"""

import asyncio
import hashlib
import ssl
import tempfile
from pathlib import Path
from typing import Any, Final

from protocols.mqtt.broker import MqttBroker
from shared.errors import DriverError, LinkLost, OptionsWrong, Refused

_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"})


class Trust(ssl.SSLContext):
    """An SSL context that may look for another name than that of the host."""

    server_name: str | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Begin TLS on a socket, and shake hands; closes it where that fails."""
        if self.server_name is not None:
            options["server_hostname"] = self.server_name
        sock = super().wrap_socket(*args, **options)
        try:
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


def trust_in(broker: MqttBroker) -> Trust:
    """Make the context for a broker; blocks. Raises `OptionsWrong` for certificates that fail."""
    trust = Trust(ssl.PROTOCOL_TLS_CLIENT)
    trust.minimum_version = ssl.TLSVersion.TLSv1_2
    trust.server_name = broker.tls_server_name
    try:
        if broker.tls_fingerprint is not None:
            # The certificate itself is compared as soon as it is known: see `check_pinned`.
            trust.check_hostname = False
            trust.verify_mode = ssl.CERT_NONE
        elif broker.tls_ca is not None:
            trust.load_verify_locations(cadata=broker.tls_ca)
        else:
            trust.load_default_certs()
        if broker.tls_certificate is not None and broker.tls_key is not None:
            _show(trust, broker.tls_certificate, broker.tls_key.get_secret_value())
    except (ssl.SSLError, ValueError) as error:
        msg = f"{broker.address}: tls_ca, tls_certificate or tls_key cannot be used: {error}"
        raise OptionsWrong(msg) from error
    return trust


def _show(trust: Trust, certificate: str, key: str) -> None:
    # The ssl module reads keys from files only; ours is there for a moment and for its owner alone.
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder) / "identity.pem"
        both.touch(mode=0o600)
        both.write_text(f"{key}\n{certificate}\n")
        trust.load_cert_chain(both, password=_no_pass_phrase)


def _no_pass_phrase() -> str:
    msg = "the key has a pass phrase: give it without"
    raise ValueError(msg)


def fingerprint_of(certificate: bytes) -> str:
    """Name a certificate (DER) by its SHA-256."""
    return hashlib.sha256(certificate).hexdigest()


def check_pinned(broker: MqttBroker, sock: Any) -> None:
    """Compare the broker's certificate with the pinned one; raises `Refused`."""
    if broker.tls_fingerprint is None:
        return
    shown = fingerprint_of(sock.getpeercert(binary_form=True) or b"")
    if shown != broker.tls_fingerprint:
        msg = (
            f"{broker.address}: the broker shows another certificate than the pinned one; if it "
            f"was renewed, set tls_fingerprint to {shown}"
        )
        raise Refused(msg)


def explained(broker: MqttBroker, error: ssl.SSLError) -> DriverError:
    """Say what a failed handshake means for who installs it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        msg = (
            f"{broker.address}: the broker's certificate is not trusted: {error.verify_message}; "
            "correct tls_ca or tls_server_name, or pin the certificate with tls_fingerprint"
        )
        return Refused(msg)
    if error.reason in _NO_TLS:
        return LinkLost(f"{broker.address}: does not speak TLS there; look at port and tls")
    told = (error.reason or str(error)).lower().replace("_", " ")
    return LinkLost(f"{broker.address}: TLS failed: {told}")


async def shown_fingerprint(broker: MqttBroker) -> str:
    """Ask who is there, believing nobody: nothing is sent and the connection is closed at once.

    For a person to compare and to pin. Raises `LinkLost`.
    """
    curious = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    curious.check_hostname = False
    curious.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(broker.timeout_s):
            _, writer = await asyncio.open_connection(broker.host, broker.port, ssl=curious)
    except ssl.SSLError as error:
        raise explained(broker, error) from error
    except TimeoutError as error:
        msg = f"{broker.address}: no TLS within {broker.timeout_s:g} s"
        raise LinkLost(msg) from error
    except OSError as error:
        msg = f"{broker.address}: {error.strerror or error}"
        raise LinkLost(msg) from error
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return fingerprint_of(certificate or b"")
