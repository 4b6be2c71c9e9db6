"""What `status` says of the environment's collector: how far it is behind, and in which files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from atalaia.environment.load import Environment
from atalaia.environment.units import show_size

_SHOWN = 5  # files


def with_lag(environment: Environment, report: dict[str, Any]) -> dict[str, Any]:
    """The supervisor's report with what the collector that runs now says of itself, or None, as `collector`."""
    from atalaia.collector import statefile

    pids = [service["pid"] for service in report["services"] if service["name"] == "collector"]
    found = statefile.read(environment.state.collector / statefile.FILE_NAME)
    return {**report, "collector": asdict(found) if found is not None and found.pid in pids else None}


def lag_lines(environment: Environment, report: dict[str, Any]) -> list[str]:
    """The same for people: a line an output, and one for each of the files that are furthest behind."""
    state = with_lag(environment, report)["collector"]
    lines = []
    for output in state["outputs"] if state else ():
        name = f" to {output['output']}" if len(state["outputs"]) > 1 else ""
        behind = "all delivered"
        if output["files_behind"]:
            size, seconds = show_size(output["bytes_behind"]), output["seconds_behind"]
            behind = f"{size} behind in {output['files_behind']} of them, the oldest of it for {seconds:.0f} s"
        lines.append(f"collector{name}: reads {output['files']} files, {behind}")
        for file in output["worst"][:_SHOWN]:
            lines.append(f"  {file['path']}: {show_size(file['behind'])} behind for {file['seconds']:.0f} s")
        if output["files_behind"] > _SHOWN:
            lines.append(f"  and {output['files_behind'] - _SHOWN} more files")
    return lines
