"""Files in other encodings: whole lines found in their own bytes, then turned into UTF-8 a block at a time."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import numpy as np

_IANA = {
    "utf-16": "utf-16-be",  # RFC 2781; a byte order mark decides first
    "utf-32": "utf-32-be",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "windows-874": "cp874",
    "iso-8859-6-e": "iso-8859-6",
    "iso-8859-6-i": "iso-8859-6",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-8-i": "iso-8859-8",
}
_MARKS = {"utf-16-be": codecs.BOM_UTF16_LE, "utf-32-be": codecs.BOM_UTF32_LE}  # of the other byte order


@dataclass(frozen=True, slots=True)
class Encoding:
    """`width`: bytes of a code unit, which line ends are aligned to; `newline`: a line end.

    `marked`: files say with a byte order mark whether it is this byte order.
    """

    codec: str
    width: int
    newline: bytes
    marked: bool = False

    def of_file(self, head: bytes) -> Encoding:
        """What a file with these first bytes is in: its byte order mark decides when the name leaves that open."""
        if self.marked and head.startswith(_MARKS[self.codec]):
            return Encoding(self.codec.replace("be", "le"), self.width, self.newline[::-1])
        return self

    def ends(self, data: bytes) -> np.ndarray:
        """Where each line of `data` ends, behind its newline (int64[N]); `data` begins with a whole code unit."""
        if self.width == 1:
            return np.flatnonzero(np.frombuffer(data, np.uint8) == self.newline[0]) + 1
        whole = len(data) // self.width * self.width
        unit = np.frombuffer(self.newline, f"u{self.width}")[0]
        return (np.flatnonzero(np.frombuffer(data[:whole], f"u{self.width}") == unit) + 1) * self.width

    def decoded(self, data: bytes, first: bool) -> bytes:
        """Whole lines as UTF-8, with as many newlines; `first`: the file begins here, perhaps with a byte order mark.

        What is not valid becomes U+FFFD.
        """
        text = data.decode(self.codec, "replace")
        if first:
            text = text.removeprefix("\ufeff")
        if text.count("\n") == len(ends := self.ends(data)):
            return text.encode("utf-8", "replace")
        # An invalid character swallowed a line's end, or made one: a line at a time then.
        begins = np.concatenate([[0], ends[:-1]])
        lines = [
            data[a : b - self.width].decode(self.codec, "replace").replace("\n", "\ufffd")
            for a, b in zip(begins, ends, strict=True)
        ]
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def encoding(name: str) -> Encoding | None:
    """The encoding of an IANA name; None for UTF-8, which needs no work. Raises ValueError for an unknown one."""
    wanted = name.strip().lower().replace("_", "-")
    try:
        found = codecs.lookup(_IANA.get(wanted, wanted))
        newline = "\n".encode(found.name)
    except (LookupError, UnicodeError, AssertionError) as error:
        raise ValueError(f"{name!r} is not an encoding that is known here") from error
    if not getattr(found, "_is_text_encoding", True):
        raise ValueError(f"{name!r} is not an encoding of text")
    if found.name in ("utf-8", "ascii"):
        return None
    width = len(newline)
    if newline.strip(b"\0") != b"\n" or width not in (1, 2, 4):
        raise ValueError(f"lines cannot be told apart in {name!r}")
    return Encoding(found.name, width, newline, wanted in ("utf-16", "utf-32"))
