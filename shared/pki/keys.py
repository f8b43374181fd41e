"""Private keys, signing requests, and the proof that a renewal comes from the last key's owner."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.pki.certificates import CertificateRefused, is_issued_by, load_certificate

_SIGNATURE = ec.ECDSA(hashes.SHA256())


def make_key_and_csr() -> tuple[bytes, bytes]:
    """Make a P-256 key and a signing request for it, both PEM; the key never leaves its maker."""
    key_pem = key_pem_of(ec.generate_private_key(ec.SECP256R1()))
    return key_pem, make_csr(key_pem)


def make_csr(key_pem: bytes) -> bytes:
    """Make a signing request for a key that exists; central ignores its subject."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    )
    signed = builder.sign(load_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def load_csr(csr_pem: bytes) -> x509.CertificateSigningRequest:
    """Read a signing request; raises `CertificateRefused` unless its own key signed it."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        is_valid = csr.is_signature_valid
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType) as error:
        raise CertificateRefused(f"not a certificate signing request: {error}") from error
    if not is_valid:
        raise CertificateRefused("the signing request is not signed by its own key")
    return csr


def public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read the key that a request asks a certificate for; must be ECDSA P-256."""
    key = load_csr(csr_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRefused("the signing request's key is not ECDSA P-256")
    return key


def load_key(key_pem: bytes, password: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 private key, locked if there is a password.

    Raises `CertificateRefused` for any other, and for a wrong password.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password)
    except (ValueError, TypeError) as error:
        how = "unencrypted" if password is None else "so encrypted"
        raise CertificateRefused(f"not an {how} PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise CertificateRefused("the key is not ECDSA P-256")
    return key


def key_pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key as unencrypted PKCS 8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def lock_key(key_pem: bytes, password: bytes) -> bytes:
    """Encrypt a private key: PKCS 8, as TLS libraries read it."""
    return load_key(key_pem).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def unlock_key(key_pem: bytes, password: bytes) -> bytes:
    """Decrypt a private key. Raises `CertificateRefused`."""
    return key_pem_of(load_key(key_pem, password))


def is_locked(key_pem: bytes) -> bool:
    """Tell whether a private key is encrypted."""
    return b"ENCRYPTED PRIVATE KEY" in key_pem


def sign_renewal(key_pem: bytes, csr_pem: bytes, password: bytes | None = None) -> bytes:
    """Sign the DER of a new request with the key of the last certificate (ECDSA, SHA-256)."""
    return load_key(key_pem, password).sign(_csr_der(csr_pem), ec.ECDSA(hashes.SHA256()))


def verify_renewal_proof(
    certificate: bytes, csr_pem: bytes, proof: bytes, roots: Sequence[x509.Certificate]
) -> None:
    """Check that the owner of a certificate of ours asks for this request.

    The certificate may have expired: how long ago is allowed, and whether it is revoked, the caller
    knows. Raises `CertificateRefused` if no root issued it or the proof is not by its key.
    """
    loaded = load_certificate(certificate)
    if not any(is_issued_by(loaded, root) for root in roots):
        raise CertificateRefused("the certificate to renew was not issued by this authority")
    key = loaded.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateRefused("the certificate to renew has no ECDSA key")
    try:
        key.verify(proof, _csr_der(csr_pem), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise CertificateRefused("the proof is not by the key of the last certificate") from error


def _csr_der(csr_pem: bytes) -> bytes:
    return load_csr(csr_pem).public_bytes(serialization.Encoding.DER)
