"""Generated passwords: made once, kept 0600, read by those that connect."""

from __future__ import annotations

import secrets
from pathlib import Path

from atalaia.environment.state import State, write_atomically


def password(state: State, server: str) -> str:
    """The superuser password of `server`, generated at the first call (32 characters, URL-safe)."""
    path = password_file(state, server)
    if not path.exists():
        state.create()
        write_atomically(path, secrets.token_urlsafe(24) + "\n", mode=0o600)
    return path.read_text().strip()


def own_token(state: State) -> str:
    """The token by which an environment's own parts ask its log store, generated at the first call (256 bits)."""
    path = state.own_token
    if not path.exists():
        state.create()
        write_atomically(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    return path.read_text().strip()


def password_file(state: State, server: str) -> Path:
    """Where the password of `server` is kept."""
    return state.secrets / f"{server}.password"
