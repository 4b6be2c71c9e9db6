"""What all tests share: a seed that is printed and taken back, and a check that no process is left behind."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers for a test; the seed is printed when it fails, and taken back from ATALAIA_SEED."""
    seed = int(os.environ.get("ATALAIA_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ATALAIA_SEED={seed}")
    return random.Random(seed)


def soak() -> bool:
    """Whether the full counts are wanted (`make soak`)."""
    return os.environ.get("ATALAIA_SOAK") == "1"
