"""The settings of object stores: those of atalaia.toml, and secrets from a file of their own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import InputError

Options = Mapping[str, str | int | bool]


def of(address: str, settings: BackupsSettings) -> Options:
    """What obstore is told of the store at `address`; what is said of it alone goes before what is said of all.

    Raises InputError when the file is none, or others may read it.
    """
    said = _read(settings.options_file) if settings.options_file else {}
    for_all = {name: value for name, value in said.items() if isinstance(value, str | int | bool)}
    own = said.get(address)
    return {
        **settings.options,
        **for_all,
        **settings.stores.get(address, {}),
        **(own if isinstance(own, dict) else {}),
    }


def _read(path: Path) -> dict[str, object]:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the file of the stores' options {path} cannot be read: {error}", "correct `options_file` in [backups]"
        ) from error
    if mode & 0o077:
        raise InputError(f"others may read {path}, which holds secrets", f"chmod 600 {path}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its message may hold a line of the file: that of a secret.
        raise InputError(f"{path} is not TOML", 'write lines such as secret_access_key = "…"') from error
