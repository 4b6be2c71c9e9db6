"""Whose lines these are, by their content; and whose a container's name says they should be."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Names of Go files that only this program has, and of paths in its lines.
_LOKI = "checkpoint|flush|table_manager|table|index_set|compactor|ruler|instance|ingester|recovery|wal|mapper|modules"
_PROMTAIL = "filetarget|filetargetmanager|tailer|targetmanager|promtail|journaltarget|positions|wal_writer"
CONTENT: Mapping[str, str] = {
    "loki": rf"(?:^| )caller=(?:{_LOKI})\.go:\d+|duplicate proto type registered: purgeplan\.|msg=\"Loki started",
    "promtail": rf"(?:^| )caller=(?:{_PROMTAIL})\.go:\d+|msg=\"Starting Promtail",
}
"""Patterns of lines whose kind does not tell the service."""

_FAMILIES = {
    "postgresql": r"postgres|pgsql|(?:^|[-_.])pg(?:[-_.\d]|$)",
    "promtail": r"promtail",
    "loki": r"loki",
    "nginx": r"nginx",
    "redis": r"redis",
    "apache": r"apache|httpd",
}


def named(container: str | None) -> str | None:
    """The service that a container's name tells, or None."""
    found = [name for name, pattern in _FAMILIES.items() if container and re.search(pattern, container.lower())]
    return found[0] if len(found) == 1 else None


def recognised(content: pa.Array, kinds: pa.Array) -> np.ndarray:
    """The service of each line, object[N] of str or None. `kinds` utf8[N]: what its kind tells already."""
    services: np.ndarray = kinds.to_numpy(zero_copy_only=False).astype(object)
    left = np.flatnonzero(services == None)  # noqa: E711  # an array is compared element by element
    for name, pattern in CONTENT.items():
        if not len(left):
            break
        hits = pc.match_substring_regex(content.take(pa.array(left)), pattern).to_numpy(zero_copy_only=False)
        services[left[hits]] = name
        left = left[~hits]
    return services
