"""What all tests share: a seed that is printed and taken back, and a check that no process is left behind."""

from __future__ import annotations

import os
import random
import signal

import hypothesis
import pytest

# A busy machine is no bug.
hypothesis.settings.register_profile("atalaia", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("atalaia")

# A shell starts what runs in the background with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers for a test; the seed is printed when it fails, and taken back from ATALAIA_SEED."""
    seed = int(os.environ.get("ATALAIA_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ATALAIA_SEED={seed}")
    return random.Random(seed)


def soak() -> bool:
    """Whether the full counts are wanted (`make soak`)."""
    return os.environ.get("ATALAIA_SOAK") == "1"
