"""Allocators: chosen before Arrow is loaded, unless the environment has chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import pyarrow as pa
import pytest

_PROGRAM = """
from atalaia.runtime import memory
memory.configure()
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("chosen", "taken"), [(None, "jemalloc"), ("system", "system")])
def test_the_pool(chosen: str | None, taken: str) -> None:
    assert taken in pa.supported_memory_backends()
    environment = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"}
    if chosen:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = chosen
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == taken
