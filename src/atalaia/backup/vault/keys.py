"""Keys: one file of repository keys; each backup has a data key of its own, wrapped by the current one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import write_atomically

_BYTES = 32  # AES-256
_NONCE = 12  # NIST SP 800-38D, 8.2: 96 bits


class WrongKey(AtalaiaError):
    """The keys at hand do not open this."""


@dataclass(frozen=True, slots=True)
class Key:
    """A repository key; `id` is the beginning of the SHA-256 of its secret, so that it says which, and nothing more."""

    secret: bytes
    created: datetime

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits."""
        return hashlib.sha256(b"atalaia repository key" + self.secret).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Keyring:
    """All repository keys, oldest first; the last one wraps new backups."""

    keys: tuple[Key, ...]

    @property
    def current(self) -> Key:
        """What wraps new backups."""
        return self.keys[-1]

    def wrap(self, data_key: bytes, identifier: str) -> dict[str, str]:
        """What a manifest keeps of its data key: which repository key, and the data key under it."""
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(self.current.secret).encrypt(nonce, data_key, identifier.encode())
        return {"cipher": "AES-256-GCM", "key": self.current.id, "wrapped": base64.b64encode(nonce + sealed).decode()}

    def unwrap(self, wrapped: dict[str, str], identifier: str) -> bytes:
        """The data key. Raises WrongKey when its key is not among these, Damaged when it does not fit."""
        key = next((key for key in self.keys if key.id == wrapped.get("key")), None)
        if key is None:
            known = ", ".join(key.id for key in self.keys) or "none"
            raise WrongKey(
                f"{identifier} is encrypted with the key {wrapped.get('key')}, not in the key file (it has {known})",
                "put the key file that was kept elsewhere in its place: `atalaia backup key import FILE`",
            )
        try:
            blob = base64.b64decode(wrapped["wrapped"], validate=True)
            return AESGCM(key.secret).decrypt(blob[:_NONCE], blob[_NONCE:], identifier.encode())
        except (InvalidTag, binascii.Error, KeyError, ValueError) as error:
            raise Damaged(
                f"the key {key.id} does not open {identifier}: its manifest was changed",
                "use another backup, or another repository that has it",
            ) from error


def new_key() -> Key:
    """A key of the system's randomness."""
    return Key(secrets.token_bytes(_BYTES), datetime.now(UTC).replace(microsecond=0))


def load(path: Path) -> Keyring:
    """The keys of a file. Raises InputError when it is missing or is no key file."""
    try:
        data = json.loads(path.read_text())
        keys = [
            Key(base64.b64decode(one["secret"], validate=True), datetime.fromisoformat(one["created"]))
            for one in data["keys"]
        ]
    except FileNotFoundError as error:
        raise InputError(
            f"the key file {path} is missing",
            "put the copy that was kept elsewhere there; `atalaia backup key new` makes one for new backups",
        ) from error
    except OSError as error:
        raise InputError(f"the key file {path} cannot be read: {error.strerror}", "correct its rights") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a key file", "put the copy that was kept elsewhere there") from error
    if not keys or any(len(key.secret) != _BYTES for key in keys):
        raise InputError(f"{path} holds no usable key", "put the copy that was kept elsewhere there")
    return Keyring(tuple(keys))


def save(path: Path, keyring: Keyring) -> None:
    """Write the key file, mode 0600, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = [
        {"id": key.id, "created": key.created.isoformat(), "secret": base64.b64encode(key.secret).decode()}
        for key in keyring.keys
    ]
    write_atomically(path, json.dumps({"keys": keys}, indent=2) + "\n", mode=0o600)
