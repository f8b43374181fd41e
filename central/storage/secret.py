"""Secrets that are shown once and kept as a hash.

All are random with at least 80 bits, so a plain SHA-256 keeps them: there is no guessing to slow.
"""

import base64
import hashlib
import secrets


def new_secret(size: int = 32) -> str:
    """Make a secret of `size` random bytes, in lower-case base32 without padding."""
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()


def hash_of(secret: str) -> bytes:
    """Give what is kept of a secret: 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()
