"""What this process uses, under the names that Prometheus' clients give it. Linux; elsewhere what the system tells."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from atalaia.runtime.measures import Family, Sample

_PROC = Path("/proc")


def families() -> list[Family]:
    """CPU, memory and files of this process. Seconds and bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = [
        Family("process_cpu_seconds_total", "counter", "CPU time used.", _one(used.ru_utime + used.ru_stime)),
        Family(
            "process_max_fds", "gauge", "Files that may be open.", _one(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        ),
    ]
    try:
        pages = (_PROC / "self" / "statm").read_text().split()
        ticks = int((_PROC / "self" / "stat").read_text().rpartition(")")[2].split()[19])
        uptime = float((_PROC / "uptime").read_text().split()[0])
        size = os.sysconf("SC_PAGE_SIZE")
        began = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
        files = len(os.listdir(_PROC / "self" / "fd"))
    except (OSError, ValueError, IndexError):
        return found
    return [
        *found,
        Family("process_open_fds", "gauge", "Files that are open.", _one(files)),
        Family("process_resident_memory_bytes", "gauge", "Memory in use.", _one(int(pages[1]) * size)),
        Family("process_virtual_memory_bytes", "gauge", "Addresses in use.", _one(int(pages[0]) * size)),
        Family("process_start_time_seconds", "gauge", "When it began, since 1970.", _one(round(began, 2))),
    ]


def _one(value: float) -> list[Sample]:
    return [Sample(value)]
