"""Groups that were set over the API: rule files like others, STORE/rules/groups/TENANT/NAMESPACE.yaml."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory, write_atomically
from atalaia.rules.model import Group, Placed
from atalaia.rules.reading import read_groups
from atalaia.rules.writing import file_text

log = logging.getLogger("atalaia.rules")
_MOST = 200  # bytes of a name in the form in which it names a file
Namespaces = Mapping[tuple[str, str], tuple[Group, ...]]
"""Groups by tenant and namespace."""


class NoSuchRules(AtalaiaError):
    """There is no group, or no namespace, of that name."""


def file_name(text: str) -> str:
    """A tenant or namespace as the name of a file. Raises InputError for what is too long, or nothing."""
    # No dot: a name made of dots is another folder, and one that begins with a dot a temporary file.
    name = quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
    if not 0 < len(name) <= _MOST:
        raise InputError(f"the name {text[:50]!r} has more than {_MOST} characters, or none", "choose a shorter one")
    return name


class KeptGroups:
    """The files, and what they say. Each change is on disk when it returns, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._found: dict[tuple[str, str], tuple[Group, ...]] = {}
        for path in sorted(folder.glob("*/*.yaml")):
            key = (unquote(path.parent.name), unquote(path.stem))
            try:
                self._found[key] = read_groups(path.read_text(encoding="utf-8"), path)
            except (AtalaiaError, OSError, UnicodeDecodeError) as error:
                # The other rules, and the store, go on; the file stays for whoever repairs it.
                log.error("event=rules_unreadable file=%s reason=%r", path, str(error))

    def all(self) -> list[Placed]:
        """Every group, with whose it is."""
        with self._guard:
            return [Placed(*key, group) for key, groups in self._found.items() for group in groups]

    def put(self, tenant: str, namespace: str, group: Group) -> None:
        """Add a group, or replace the one of its name. Raises InputError for a name that is too long, AtalaiaError."""
        with self._guard:
            there = self._found.get((tenant, namespace), ())
            names = [one.name for one in there]
            changed = tuple(group if one.name == group.name else one for one in there)
            self._write(tenant, namespace, changed if group.name in names else (*there, group))

    def remove(self, tenant: str, namespace: str, name: str | None = None) -> None:
        """Remove a group, or without a name all of a namespace. Raises NoSuchRules."""
        with self._guard:
            there = self._found.get((tenant, namespace), ())
            left = tuple(one for one in there if name is not None and one.name != name)
            if len(left) == len(there):
                raise NoSuchRules("group does not exist" if name is not None else "namespace does not exist")
            self._write(tenant, namespace, left)

    def _write(self, tenant: str, namespace: str, groups: tuple[Group, ...]) -> None:
        folder = self._folder / file_name(tenant)
        path = folder / f"{file_name(namespace)}.yaml"
        try:
            if groups:
                for made in (self._folder.parent, self._folder, folder):
                    if not made.exists():
                        made.mkdir()
                        sync_directory(made.parent)
                write_atomically(path, file_text(groups))
            else:
                path.unlink(missing_ok=True)
                sync_directory(folder)
        except OSError as error:
            raise AtalaiaError(
                f"{path} cannot be written: {error.strerror}", "free disk space, or see who owns it"
            ) from error
        if groups:
            self._found[tenant, namespace] = groups
        else:
            self._found.pop((tenant, namespace), None)
