"""The project's own certificates: a root, servers, gateways, renewal proofs and TLS contexts.

ECDSA P-256 throughout. Certificates pass strict verification (Python 3.13's VERIFY_X509_STRICT):
basic constraints, key usage, subject and authority key identifiers are all there. No list of what
was issued is kept here: central's tables do. `CertificateRefused` is the one error.
"""

from shared.pki.authority import (
    GATEWAY_DAYS,
    SERVER_DAYS,
    Issued,
    Root,
    issue_gateway,
    issue_self_signed,
    issue_server,
    load_root,
    make_root,
    root_pin,
    save_root,
)
from shared.pki.certificates import (
    CLOCK_SKEW,
    CertificateRefused,
    find_pinned,
    fingerprint,
    identity,
    is_issued_by,
    load_certificate,
    pin_of,
    renew_at,
)
from shared.pki.files import write_private
from shared.pki.keys import (
    is_locked,
    load_csr,
    load_key,
    lock_key,
    make_csr,
    make_key_and_csr,
    sign_renewal,
    unlock_key,
    verify_renewal_proof,
)
from shared.pki.tls import client_context, server_context

__all__ = [
    "CLOCK_SKEW",
    "GATEWAY_DAYS",
    "SERVER_DAYS",
    "CertificateRefused",
    "Issued",
    "Root",
    "client_context",
    "find_pinned",
    "fingerprint",
    "identity",
    "is_issued_by",
    "is_locked",
    "issue_gateway",
    "issue_self_signed",
    "issue_server",
    "load_certificate",
    "load_csr",
    "load_key",
    "load_root",
    "lock_key",
    "make_csr",
    "make_key_and_csr",
    "make_root",
    "pin_of",
    "renew_at",
    "root_pin",
    "save_root",
    "server_context",
    "sign_renewal",
    "unlock_key",
    "verify_renewal_proof",
    "write_private",
]
