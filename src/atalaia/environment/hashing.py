"""How secrets rest: tokens under SHA-256, passwords under scrypt.

A token has 256 random bits: nobody finds it from a fast hash, so that checking one costs a microsecond. A password is
guessable, so that each guess must be slow: scrypt with 32 MiB, some 80 ms (docs/decisions/009).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

_N, _R, _P = 1 << 15, 8, 1
_SCRYPT = re.compile(r"scrypt:([0-9]{1,8}):([0-9]{1,3}):([0-9]{1,3}):([0-9a-f]{32,128}):([0-9a-f]{64})")
_TOKEN = re.compile(r"sha256:[0-9a-f]{64}")
_MEMORY = 256 << 20  # bytes that a hash of a file may ask for


def new_token() -> str:
    """256 random bits, with a name by which scanners for leaked secrets know it."""
    return f"atalaia_{secrets.token_urlsafe(32)}"


def of_token(token: str) -> str:
    """The hash of a token."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def of_password(password: str) -> str:
    """A hash of a password, with a salt of its own."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{_N}:{_R}:{_P}:{salt.hex()}:{_scrypt(password, salt, _N, _R, _P)}"


def is_password(password: str, stored: str) -> bool:
    """Whether a hash is that of a password; takes its time either way."""
    found = _SCRYPT.fullmatch(stored)
    assert found is not None, "principals.read lets no other in"
    n, r, p, salt, digest = found.groups()
    return same(_scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p)), digest)


def same(one: str, other: str) -> bool:
    """Equality whose time does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def known(stored: str) -> bool:
    """Whether this is a hash that can be compared with, and costs no more than it may."""
    found = _SCRYPT.fullmatch(stored)
    if found is None:
        return _TOKEN.fullmatch(stored) is not None
    n, r, p = (int(text) for text in found.groups()[:3])
    return n > 1 and n & (n - 1) == 0 and r > 0 and 0 < p <= 16 and 128 * n * r <= _MEMORY


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> str:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * _MEMORY, dklen=32).hex()
