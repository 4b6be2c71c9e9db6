"""Every body is read where it is bounded."""

from __future__ import annotations

import re
from pathlib import Path

from atalaia.api import http

API = Path(http.__file__).parent


def test_bodies_are_read_by_one_function() -> None:
    readers = {
        path.name
        for path in API.glob("*.py")
        if re.search(r"request\.(body|json|form|stream)\(|await receive\(\)|request\.receive\(\)", path.read_text())
    }
    # asking.py waits for the client to leave, after the body was read.
    assert readers == {"http.py", "asking.py"}
