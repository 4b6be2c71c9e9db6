"""Puts values from the log into texts, in prose and in commands, so that neither can be abused.

Who sends a message chooses its user, database and relation names, so they may hold quotes, `;` or terminal
escapes. A value enters a command only when it is harmless there; otherwise its name in angle brackets stands
in its place.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from atalaia.diagnosis.language import Language, phrases
from atalaia.diagnosis.load import PLACEHOLDER

_HARMLESS = re.compile(r"[A-Za-z0-9_/.:%+@][A-Za-z0-9_/.:%+@-]{0,199}")
_COMMAND = re.compile(r"`[^`]*`")


def visible(text: str, limit: int = 0) -> str:
    """`text` without control characters other than newline and tab (a terminal would obey them), cut at
    `limit`.
    """
    shown = "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if not limit or len(shown) <= limit else shown[: limit - 1] + "…"


def fill(text: str, values: Mapping[str, str], language: Language) -> str:
    """`text` with its placeholders replaced: between backquotes only by harmless values, elsewhere by any,
    made visible.
    """

    def command(match: re.Match[str]) -> str:
        value = values.get(match[1], "")
        name = phrases(language).get(f"name_{match[1]}", match[1])
        return value if _is_harmless(match[1], value) else f"<{name}>"

    def prose(match: re.Match[str]) -> str:
        value = visible(values.get(match[1], ""), 120).replace("\n", " ").replace("`", "'")
        table = phrases(language)
        return value or table.get(f"missing_{match[1]}") or table["missing_other"]

    pieces = []
    position = 0
    for span in _COMMAND.finditer(text):
        pieces += [PLACEHOLDER.sub(prose, text[position : span.start()]), PLACEHOLDER.sub(command, span[0])]
        position = span.end()
    pieces.append(PLACEHOLDER.sub(prose, text[position:]))
    filled = "".join(pieces)
    return filled[:1].upper() + filled[1:] if text.startswith("{") and not values.get(_first(text)) else filled


def _first(text: str) -> str:
    match = PLACEHOLDER.match(text)
    return match[1] if match else ""


def _is_harmless(name: str, value: str) -> bool:
    if name == "hba_line":  # made by `derived` of harmless values
        return bool(value)
    return bool(_HARMLESS.fullmatch(value))


def derived(values: Mapping[str, str]) -> dict[str, str]:
    """`cidr` and `hba_line` as pg_hba.conf wants them, of `host` (or `remote_host`), `login` and `dbname`."""
    host = values.get("host") or values.get("remote_host", "")
    login, database = values.get("login", ""), values.get("dbname", "replication")
    if not _HARMLESS.fullmatch(login) or not _HARMLESS.fullmatch(database):
        login = database = ""
    result = {}
    try:
        address = ipaddress.ip_address(host)
        result["cidr"] = f"{address}/{address.max_prefixlen}"
    except ValueError:
        if host == "[local]" and login:
            result["hba_line"] = f"local {database} {login} scram-sha-256"
        return result
    if login:
        result["hba_line"] = f"host {database} {login} {result['cidr']} scram-sha-256"
    return result
