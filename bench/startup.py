"""`atalaia up`: from nothing, and again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from bench.table import Row


def measure(folder: Path) -> list[Row]:
    """Cold (two initdb), warm, while it runs; and down."""
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "atalaia.toml").write_text("[collection]\ntargets = []\n")

    def seconds(word: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "atalaia", word], cwd=folder, check=False, stdout=subprocess.DEVNULL
        )
        if done.returncode:
            raise AtalaiaError(f"atalaia {word} ended with {done.returncode}", "its own message is above")
        return time.perf_counter() - began

    rows = []
    try:
        rows.append(Row("atalaia up, cold", seconds("up"), "s", note="two initdb"))
        seconds("down")
        rows.append(Row("atalaia up, warm", seconds("up"), "s"))
        rows.append(Row("atalaia up, running already", seconds("up"), "s"))
    finally:
        rows.append(Row("atalaia down", seconds("down"), "s"))
    return rows
