"""wc, rg (or grep) and zstd on the raw files: the scale that makes figures of different machines comparable."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from bench.table import Row

PHRASE = "invalid length of startup packet"
# What they took where the targets were measured, in seconds, on 564 MB.
_WC, _RG, _ZSTD, _SIZE = 0.060, 0.062, 0.951, 563_836_564


@dataclass(frozen=True, slots=True)
class Scale:
    """This machine: seconds of each tool on the reference log of `size` bytes; None where it is not installed."""

    size: int
    searcher: str
    wc: float
    search: float
    zstd: float | None

    @property
    def queries(self) -> float:
        """Times of queries on this log here, as a multiple of those where the targets were measured."""
        return self.search / _RG if self.searcher == "rg" else self.wc / _WC

    @property
    def ingestion(self) -> float:
        """The same of what takes CPU: reading, compressing, writing."""
        return self.wc / _WC if self.zstd is None else self.zstd / _ZSTD

    @property
    def speed(self) -> float:
        """MB/s here as a multiple of MB/s there."""
        return self.size / _SIZE / self.ingestion

    @property
    def rows(self) -> list[Row]:
        """The tools' own lines of the table."""
        search = (
            f"{_RG * 1e3:,.0f} ms for the targets" if self.searcher == "rg" else "no rg here: wc scales the targets"
        )
        found = [
            ("wc -l", self.wc, f"{_WC * 1e3:,.0f} ms for the targets"),
            (f"{self.searcher} -c, a phrase", self.search, search),
        ]
        if self.zstd is not None:
            found.append(("zstd -1", self.zstd, f"{_ZSTD * 1e3:,.0f} ms for the targets"))
        return [
            Row(what, here * 1e3, "ms", note=f"{self.size / 1e6 / here:,.0f} MB/s; {there}")
            for what, here, there in found
        ]


def searcher() -> str:
    """rg, or grep where it is not installed."""
    return "rg" if shutil.which("rg") else "grep"


def measure(file: Path) -> Scale:
    """The tools on the reference log, best of three; the first run brings the file into the page cache."""
    wc = min(_run(["wc", "-l", str(file)])[0] for _ in range(3))
    search = count(PHRASE, [file])[0]
    compress = ["zstd", "-1", "-q", "-c", str(file)]
    zstd = min(_run(compress, subprocess.DEVNULL)[0] for _ in range(2)) if shutil.which("zstd") else None
    return Scale(file.stat().st_size, searcher(), wc, search, zstd)


def count(pattern: str, files: Sequence[Path]) -> tuple[float, int]:
    """(seconds, lines) of `rg -c` over the files, best of three. The pattern is one of rg and of grep -E alike."""
    quiet = ["--no-filename", "--no-config"] if searcher() == "rg" else ["-h", "-E"]
    runs = [_run([searcher(), "-c", *quiet, "-e", pattern, *map(str, files)]) for _ in range(3)]
    return min(seconds for seconds, _ in runs), sum(map(int, runs[0][1].split()))


def lines(files: Sequence[Path]) -> int:
    """Lines of the files together."""
    return sum(int(_run(["wc", "-l", str(file)])[1].split()[0]) for file in files)


def _run(command: Sequence[str], output: int = subprocess.PIPE) -> tuple[float, bytes]:
    """(seconds, output). Into a pipe: grep stops at the first match when it sees that its output goes to /dev/null."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=output, env={**os.environ, "LC_ALL": "C"}, check=False)
    seconds = time.perf_counter() - began
    if done.returncode > 1:  # 1: nothing was found
        raise AtalaiaError(f"{command[0]} ended with {done.returncode}", "its own message is above")
    return seconds, done.stdout
