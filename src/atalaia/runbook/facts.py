"""What the document is made of. Nothing may be blank: what is not known is an `Unknown` with its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from atalaia.diagnosis.diagnose import Diagnosis


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that could not be found out, and why, as the end of a sentence: "the server is stopped"."""

    because: str

    def __post_init__(self) -> None:
        _not_blank(self)


Fact = str | Unknown
ServiceState = Literal["starting", "ready", "restarting", "stopping", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service. No `addresses` and no `port` (None) mean that it does not listen; a directory may be None
    too.

    `settings` are those that differ from Atalaia's defaults, empty when none does; `started` are log lines of
    its last start, as written, empty when its log has none.
    """

    name: str
    kind: Literal["postgres", "collector", "store", "supervisor"]
    state: ServiceState | Unknown
    version: Fact
    addresses: tuple[str, ...] | Unknown
    port: int | Unknown | None
    data_directory: Fact | None
    log_directory: Fact | None
    settings: tuple[tuple[str, str], ...] | Unknown
    started: tuple[str, ...] | Unknown

    def __post_init__(self) -> None:
        _not_blank(self)
        if isinstance(self.port, int) and not 1 <= self.port <= 65535:
            raise ValueError(f"{self.name}: port {self.port} is not a port")


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Where logs are kept. `size` is in bytes; `oldest` and `newest` are times of entries, ns since 1970."""

    address: Fact
    directory: Fact
    retention_age: Fact
    retention_size: Fact
    entries: int | Unknown
    size: int | Unknown
    oldest: int | Unknown
    newest: int | Unknown

    def __post_init__(self) -> None:
        _not_blank(self)


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """One backup: `taken` in ns since 1970, `size` in bytes, `checksum` in hexadecimal (its beginning is
    shown).

    `restore_seconds` is how long its last restore test took: the evidence that, and how fast, it restores.
    """

    name: str
    server: str
    taken: int
    size: int | Unknown
    state: Literal["running", "complete", "verified", "failed"]
    checksum: Fact
    restore_seconds: float | Unknown

    def __post_init__(self) -> None:
        _not_blank(self)


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands as they are to be typed, in order: to rebuild from nothing, back up, verify, restore, renew
    this.
    """

    rebuild: tuple[str, ...]
    backup: tuple[str, ...]
    verify: tuple[str, ...]
    restore: tuple[str, ...]
    renew: tuple[str, ...]

    def __post_init__(self) -> None:
        _not_blank(self)
        for field in fields(self):
            if not getattr(self, field.name):
                raise ValueError(f"Commands.{field.name} is empty: the document could not tell how")


@dataclass(frozen=True, slots=True)
class RunbookFacts:
    """Everything that the document says. `generated` is in ns since 1970; `environment` is a name, not a
    machine's.

    `configuration` is the text of atalaia.toml; `targets` are the globs that are collected besides the
    servers' own logs; `diagnosis` must be in the document's language.
    """

    generated: int
    environment: str
    version: str
    configuration: Fact
    services: tuple[ServiceFacts, ...]
    targets: tuple[str, ...]
    store: StoreFacts
    repository: Fact
    backups: tuple[BackupFacts, ...] | Unknown
    diagnosis: Diagnosis | Unknown
    commands: Commands

    def __post_init__(self) -> None:
        _not_blank(self)
        if self.generated <= 0:
            raise ValueError("RunbookFacts.generated is not a time")
        names = [service.name for service in self.services]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"RunbookFacts.services: every service once, at least one; got {names}")


def _not_blank(facts: object) -> None:
    """Raise ValueError for an empty or blank text anywhere in a dataclass of facts, or a negative amount."""
    for field in fields(facts):  # type: ignore[arg-type]  # called by dataclasses only
        for value in _leaves(getattr(facts, field.name)):
            where = f"{type(facts).__name__}.{field.name}"
            if isinstance(value, str) and not value.strip():
                raise ValueError(f"{where} is blank; give Unknown(because) for what is not known")
            if isinstance(value, (int, float)) and value < 0:
                raise ValueError(f"{where} is negative: {value}")


def _leaves(value: object) -> list[object]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, tuple) else [value]
