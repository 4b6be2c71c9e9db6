"""What a file is: a text dump, an archive of pg_dump, or something else that stands in a dump's place."""

from __future__ import annotations

import codecs
import re

from atalaia.backup.inspecting import stray
from atalaia.backup.inspecting.findings import Effect, Finding
from atalaia.backup.inspecting.normal import Normaliser, Recipe

ARCHIVE = b"PGDMP"
_OTHERS = (
    (
        rb"\s*(?:<!DOCTYPE|<html|<\?xml|<Error>)",
        "web-page",
        "a web page or an XML answer, not a dump",
        "download it again, logged in",
    ),
    (
        rb"\s*[\[{]\s*[\"}\]]",
        "json",
        "JSON, not a dump: probably a service's error message",
        "download it again, and read it: it says why",
    ),
    (rb"-- (?:MySQL|MariaDB) dump", "mysql", "a dump of MySQL or MariaDB", "pgloader moves such data into PostgreSQL"),
    (rb"SQLite format 3\0", "sqlite", "an SQLite database", "pgloader moves such data into PostgreSQL"),
    (
        rb"Salted__|age-encryption\.org|-----BEGIN PGP",
        "encrypted",
        "encrypted",
        "decrypt it, then inspect what comes out",
    ),
    (rb"PK\x03\x04", "zip", "a zip archive", "unpack it with `unzip`, then inspect what is in it"),
    (
        rb"\x1f\x8b|\xfd7zXZ|\x28\xb5\x2f\xfd|BZh\d",
        "twice",
        "compressed twice",
        "decompress it once, then inspect it again",
    ),
)


def form_of(head: bytes) -> str:
    """`text`, `custom`, `tar`, or empty when the first bytes are none of these."""
    if head.startswith(ARCHIVE):
        return "custom"
    if head[257:262] == b"ustar" and head.startswith(b"toc.dat\0"):
        return "tar"
    at = head.find(b"\n" + ARCHIVE)
    if at >= 0 and stray.likely(head[: at + 1].replace(b"\r", b"")):
        return "custom"
    if head.replace(b"\r\n", b"\n").startswith(b"toc.dat\0"):
        return "tar"
    text = normal_head(head)
    other = b"\0" in text or re.match(rb"-- (?:MySQL|MariaDB) dump", text)
    return "text" if not other and stray.first_line(text) >= 0 else ""


def normal_head(head: bytes) -> bytes:
    """The first bytes as normalised text."""
    normaliser = Normaliser(Recipe())
    return normaliser.feed(head) + normaliser.finish()


def other(head: bytes) -> Finding:
    """What stands in the dump's place."""
    if not head.strip(b"\0\xff\xfe\xef\xbb\xbf\r\n\t "):
        what = "empty" if not head else "empty but for spaces, zeros or a byte order mark"
        return Finding("empty", Effect.FATAL, f"it is {what}: the dump failed before its first line", "make another")
    text = normal_head(head)
    for pattern, code, what, remedy in _OTHERS:
        if re.match(pattern, head) or (not head.startswith(codecs.BOM_UTF8) and re.match(pattern, text)):
            return Finding(code, Effect.FATAL, f"it is {what}", remedy)
    if stray.likely(text[:4096].rsplit(b"\n", 1)[0] if len(text) > 4096 else text):
        first = text.strip().split(b"\n")[0][:200].decode(errors="replace")
        remedy = (
            "the dump asked for a password that nobody gave: use ~/.pgpass" if "assword" in first else "correct that"
        )
        return Finding("message", Effect.FATAL, f"it holds no dump, only a message: {first}", f"{remedy}; make another")
    if head[257:262] == b"ustar":
        return Finding(
            "tar",
            Effect.FATAL,
            "it is a tar archive, not of pg_dump (its first file is not toc.dat)",
            "unpack it, then inspect what is in it",
        )
    return Finding(
        "unknown", Effect.FATAL, "it does not begin like a dump", "look at its first lines: `head -c 500 FILE`"
    )
