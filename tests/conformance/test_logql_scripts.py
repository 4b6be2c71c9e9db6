"""Loki's own evaluations of metric queries, run over HTTP; they lie beside the clone, in ../shared/conformance."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api_support import Served, served

__all__ = ["served"]

COLLECTION = Path(__file__).parents[3] / "shared" / "conformance"
EVALUATIONS = 534


@pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the collection is not at {COLLECTION}")
def test_every_evaluation_agrees(served: Served) -> None:
    scripts = sorted(COLLECTION.glob("logql/*.logqltest"))
    assert scripts
    run = subprocess.run(
        [sys.executable, COLLECTION / "run.py", "--verbose", "--url", served.url, *scripts],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = f"{run.stdout[-4000:]}{run.stderr[-2000:]}"
    assert run.returncode == 0, told
    counts = re.search(r"^(\d+) passed, 0 failed$", run.stdout, re.MULTILINE)
    assert counts, told
    assert int(counts[1]) >= EVALUATIONS
