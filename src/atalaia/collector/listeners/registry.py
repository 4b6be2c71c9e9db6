"""The kinds of listeners by their keys in a scrape config."""

from __future__ import annotations

from collections.abc import Mapping

from atalaia.collector.listeners import gelf, push, syslog
from atalaia.collector.listeners.listener import Builder

KINDS: Mapping[str, Builder] = {
    "gelf": gelf.build,
    "loki_push_api": push.build,
    "syslog": syslog.build,
}
