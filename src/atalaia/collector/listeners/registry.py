"""The kinds of listeners by their keys in a scrape config."""

from __future__ import annotations

from collections.abc import Mapping

from atalaia.collector.listeners import docker, gelf, journal, push, syslog
from atalaia.collector.listeners.listener import Builder

KINDS: Mapping[str, Builder] = {
    "docker_sd_configs": docker.build,
    "gelf": gelf.build,
    "journal": journal.build,
    "loki_push_api": push.build,
    "syslog": syslog.build,
}
