"""The settings of `docker_sd_configs`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atalaia.collector.listeners.given import number, seconds
from atalaia.environment.yamlfile import Node, Reader

_KNOWN = {"host", "port", "filters", "refresh_interval", "host_networking_host", "match_first_network"}
_HARMLESS = {"follow_redirects", "enable_http2"}  # Docker's API has no redirects, and no HTTP/2 without TLS


@dataclass(frozen=True, slots=True)
class Settings:
    """One entry of docker_sd_configs. `refresh` in seconds."""

    host: str
    port: int = 80
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    refresh: float = 60.0
    host_networking_host: str = "localhost"
    match_first_network: bool = True


def settings_of(reader: Reader, node: Node, job: str) -> Settings | None:
    """One entry's settings; None for none that can be used, which the reader is told."""
    given = reader.mapping(node, f"docker_sd_configs of job {job!r}", _KNOWN | _HARMLESS)
    host = reader.text(given.get("host"), "docker_sd_configs.host") or ""
    if not re.fullmatch(r"unix:///.+|(tcp|http)://[^/]+/?", host):
        remedy = "write unix:///var/run/docker.sock, or tcp://HOST:PORT"
        reader.problem(given.get("host", node), f"docker_sd_configs.host is {host!r}", remedy)
        return None
    filters: dict[str, list[str]] = {}
    for one in reader.sequence(given.get("filters"), "filters"):
        body = reader.mapping(one, "filters", {"name", "values"})
        name = reader.text(body.get("name"), "filters.name")
        values = [text for value in reader.sequence(body.get("values"), "filters.values") if (text := value.written)]
        if not name or not values:
            reader.problem(one, "a filter has a name and values", "write `- name: name` and `values: [flog]` below it")
        else:
            filters.setdefault(name, []).extend(values)
    first = given.get("match_first_network")
    return Settings(
        host.rstrip("/") if not host.startswith("unix") else host,
        number(reader, given.get("port"), "docker_sd_configs.port", 80),
        filters,
        max(0.1, seconds(reader, given.get("refresh_interval"), "docker_sd_configs.refresh_interval", 60.0)),
        reader.text(given.get("host_networking_host"), "host_networking_host") or "localhost",
        True if first is None else reader.flag(first, "match_first_network"),
    )
