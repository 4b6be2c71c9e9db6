"""Who may ask the log store: names, tenants, scopes, and hashes of what they show; kept in a JSON file.

{"version": 1, "principals": [{"name": "…", "tenants": ["…"] or null for all, "scopes": ["read"], "kind": "token" or
"password", "secret": "sha256:HEX" or "scrypt:N:R:P:SALT:HEX", "added": "RFC 3339"}]}
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from atalaia.environment import hashing
from atalaia.environment.errors import InputError
from atalaia.environment.state import write_atomically

Scope = Literal["push", "read", "delete", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = ("push", "read", "delete", "admin", "metrics")
OWN = "atalaia"
"""The principal of an environment's own parts, which is in no file of principals."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may ask. `tenants`: None for all. `secret` is a hash (hashing.py)."""

    name: str
    tenants: tuple[str, ...] | None
    scopes: tuple[Scope, ...]
    kind: Literal["token", "password"]
    secret: str = field(repr=False)
    added: str = ""

    def may(self, scope: Scope) -> bool:
        """Whether a scope was given; who has `admin` may see metrics, too."""
        return scope in self.scopes or (scope == "metrics" and "admin" in self.scopes)

    def may_ask(self, tenant: str) -> bool:
        """Whether a tenant was given."""
        return self.tenants is None or tenant in self.tenants


@dataclass(frozen=True, slots=True)
class Principals:
    """All of a file."""

    all: tuple[Principal, ...] = ()

    def named(self, name: str) -> Principal | None:
        """The one of that name."""
        return next((found for found in self.all if found.name == name), None)

    def of_token(self, token: str) -> Principal | None:
        """The one whom a token names."""
        digest = hashing.of_token(token)
        found = None
        for principal in self.all:  # all of them, so that the time tells nothing
            if principal.kind == "token" and hashing.same(principal.secret, digest):
                found = principal
        return found

    def adding(self, principal: Principal) -> Principals:
        """With one more. Raises InputError for a name that is taken, or none."""
        if not _NAME.fullmatch(principal.name) or principal.name == OWN:
            raise InputError(
                f"{principal.name!r} cannot be a name here",
                "use letters, digits and _ . @ -, at most 100, not 'atalaia'",
            )
        if self.named(principal.name):
            raise InputError(f"there is {principal.name!r} already", f"`atalaia access revoke {principal.name}` first")
        return Principals((*self.all, principal))

    def without(self, name: str) -> Principals:
        """Without one. Raises InputError when there is none of that name."""
        if self.named(name) is None:
            known = ", ".join(found.name for found in self.all) or "nobody"
            raise InputError(f"there is no {name!r}", f"known are: {known}")
        return Principals(tuple(found for found in self.all if found.name != name))

    def save(self, path: Path) -> None:
        """Write the file, 0600."""
        rows = [asdict(principal) for principal in self.all]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"version": 1, "principals": rows}, indent=2) + "\n", 0o600)


def read(path: Path) -> Principals:
    """What a file holds. Raises InputError for a damaged one, or one that others could have changed or can read."""
    try:
        if path.stat().st_mode & 0o027:
            raise InputError(f"others can read or change {path}", f"chmod 600 {path}")
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != 1:
            raise ValueError(f"version {data['version']!r} is not known")
        return Principals(tuple(_principal(row) for row in data["principals"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} cannot be read: {why}", "`atalaia access` writes it; restore it, or begin anew"
        ) from error


def _principal(row: dict[str, object]) -> Principal:
    tenants, scopes = row["tenants"], row["scopes"]
    if tenants is not None and not (isinstance(tenants, list) and all(isinstance(t, str) for t in tenants)):
        raise ValueError(f"tenants {tenants!r} are not names")
    if not isinstance(scopes, list) or not set(scopes) <= set(SCOPES):
        raise ValueError(f"scopes {scopes!r} are not of {', '.join(SCOPES)}")
    kind, secret = row["kind"], str(row["secret"])
    if kind not in ("token", "password") or not hashing.known(secret):
        raise ValueError(f"the secret of {row['name']!r} is of no known kind")
    given = None if tenants is None else tuple(str(tenant) for tenant in tenants)
    return Principal(
        str(row["name"]), given, tuple(s for s in SCOPES if s in scopes), kind, secret, str(row.get("added", ""))
    )


def now() -> str:
    """The moment, for `added`."""
    return datetime.now(UTC).isoformat(timespec="seconds")
