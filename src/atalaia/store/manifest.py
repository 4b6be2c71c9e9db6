"""What an export consists of: manifest.json beside its parts, which says what was asked for and what is finished."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from atalaia.environment.errors import InputError
from atalaia.environment.state import write_atomically

FILE_NAME = "manifest.json"


class Kind(StrEnum):
    """The files of an export."""

    PARQUET = "parquet"
    JSONL = "jsonl"


class Wanted(BaseModel):
    """The entries of [start, end) ns, of one tenant or of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    start: int = 0
    end: int = 2**63 - 1
    tenant: str | None = None


class PartFile(BaseModel):
    """A finished file: its size in bytes, and (ts, seq) of its last entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    rows: int
    bytes: int
    sha256: str
    last: tuple[int, int]


class Manifest(BaseModel):
    """An export as far as it has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    wanted: Wanted
    parts: tuple[PartFile, ...] = ()
    complete: bool = False

    @property
    def rows(self) -> int:
        """Entries in finished parts."""
        return sum(part.rows for part in self.parts)

    def save(self, directory: Path) -> None:
        """Write it below `directory`, atomically and durably."""
        write_atomically(directory / FILE_NAME, self.model_dump_json(indent=2) + "\n")


def load(directory: Path) -> Manifest | None:
    """The manifest of the export in `directory`, None where there is none. Raises InputError when it is not one."""
    path = directory / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path} is not the manifest of an export: {where} {first['msg']}", "export into a new directory"
        ) from error
