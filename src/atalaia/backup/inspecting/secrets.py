"""Secrets that stand in clear in a dump's statements."""

from __future__ import annotations

import re

# What it is, and the words that give it away. Only statements are searched, never rows.
_SECRETS = (
    ("SCRAM verifiers of roles", re.compile(rb"\A(?:CREATE|ALTER) (?:ROLE|USER) [^;]*PASSWORD 'SCRAM-SHA-256\$")),
    ("md5 password hashes of roles", re.compile(rb"\A(?:CREATE|ALTER) (?:ROLE|USER) [^;]*PASSWORD 'md5[0-9a-f]{32}'")),
    (
        "passwords of roles in clear",
        re.compile(
            rb"\A(?:CREATE|ALTER) (?:ROLE|USER) (?!MAPPING)[^;]*PASSWORD '(?!SCRAM-SHA-256\$|md5[0-9a-f]{32}')[^']"
        ),
    ),
    ("passwords for foreign servers", re.compile(rb"\A(?:CREATE|ALTER) USER MAPPING [^;]*\bpassword '", re.I)),
    (
        "passwords of subscriptions",
        re.compile(rb"\A(?:CREATE|ALTER) SUBSCRIPTION .*CONNECTION '[^;]*password", re.S | re.I),
    ),
    (
        "passwords in connection strings of functions, views or settings",
        re.compile(rb"password\s*=\s*(?!['\"\s]*(?:\$|%|:|\|))[^\s;,)]|postgres(?:ql)?://[^\s:/@']+:[^\s@']+@", re.I),
    ),
)
_LIKELY = re.compile(rb"password|postgres(?:ql)?://[^\s:/@']+:", re.I)


def secrets_in(statement: bytes) -> str:
    """What sort of secret a statement holds; empty when none was recognised."""
    if not _LIKELY.search(statement):
        return ""
    for what, pattern in _SECRETS[:-1]:
        if pattern.search(statement):
            return what
    what, pattern = _SECRETS[-1]
    if statement.startswith(
        (b"CREATE ", b"ALTER DATABASE", b"ALTER SYSTEM", b"ALTER ROLE", b"ALTER SERVER", b"SELECT dblink")
    ):
        return what if pattern.search(statement) else ""
    return ""
