"""How the long-lived processes take memory: as little as batches of some megabytes need, and the same again."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT = 32 << 20  # bytes that malloc may keep for the next batch


def configure() -> None:
    """Choose allocators; to be called before NumPy and Arrow are imported. What the environment says stands."""
    # Measured in docs/decisions/007: 60 MB less of a burst stays with the store than with Arrow's default, mimalloc.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    # Nothing here multiplies matrices, and OpenBLAS' threads spin when they start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # By itself glibc gives a batch's blocks back to the kernel, which has to clear every page for the next one.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _KEPT)
