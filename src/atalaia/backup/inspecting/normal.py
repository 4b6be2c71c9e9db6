"""Undoes what a terminal, an editor or PowerShell did to a text: UTF-16, byte order mark, CRLF line ends.

A terminal (`docker exec -t`) puts a CR before every LF, also where there was one already. Taking exactly one CR
before each LF away is therefore its exact inverse: a CRLF that was data comes out as CRLF.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from enum import Enum


class Ends(Enum):
    """What to do with CRLF: take the CR away if the first line ends so, always, never."""

    SEEN = "as the first line"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to read a text; `page` is the code page through which a Windows console misread UTF-8."""

    ends: Ends = Ends.SEEN
    page: str = ""


PAGES = ("cp850", "cp437", "cp1252", "cp858", "latin-1")
_BOM8 = codecs.BOM_UTF8


class Normaliser:
    """Feed it blocks of a text; it returns the text with LF line ends, in UTF-8 unless it is in another 8-bit encoding.

    `stripped` counts line ends that lost a CR, `doubled` those of them that had two, `bare` those without any.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False
        self._carry = b""
        self._strip: bool | None = {Ends.ALWAYS: True, Ends.NEVER: False}.get(recipe.ends)
        self._pages = {page: codecs.getincrementaldecoder("utf-8")() for page in PAGES}
        self._foreign = False
        self.mark = ""
        self.stripped = 0
        self.doubled = 0
        self.bare = 0

    @property
    def stripping(self) -> bool:
        """Whether line ends are CRLF and lose their CR."""
        return bool(self._strip)

    @property
    def page(self) -> str:
        """The code page through which all that is not ASCII was misread; empty when there was none."""
        return next(iter(self._pages), "") if self._foreign and self._decoder else ""

    @property
    def foreign(self) -> bool:
        """Whether UTF-16 text has characters beyond ASCII."""
        return self._foreign

    def feed(self, block: bytes) -> bytes:
        """What is known of the text after this block."""
        if not self._begun:
            block = self._carry + block
            self._carry = b""
            if len(block) < 4:
                self._carry = block
                return b""
            block = self._begin(block)
        return self._lines(self._decode(block) if self._decoder else block)

    def finish(self) -> bytes:
        """What was held back."""
        rest = b""
        if not self._begun and self._carry:
            block, self._carry = self._carry, b""
            rest = self._lines(self._decode(self._begin(block)) if self._decoder else self._begin(block))
        carry, self._carry = self._carry, b""
        return rest + carry

    def _begin(self, block: bytes) -> bytes:
        self._begun = True
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self.mark = "UTF-16"
            self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        elif len(block) >= 4 and (block[1:4:2] == b"\0\0" or block[0:4:2] == b"\0\0") and block.count(0, 0, 4) == 2:
            self.mark = "UTF-16 without a byte order mark"
            order = "utf-16-le" if block[1] == 0 else "utf-16-be"
            self._decoder = codecs.getincrementaldecoder(order)("replace")
        elif block.startswith(_BOM8):
            self.mark = "UTF-8 with a byte order mark"
            block = block[3:]
        return block

    def _decode(self, block: bytes) -> bytes:
        assert self._decoder
        text = self._decoder.decode(block)
        if text.isascii():
            return text.encode()
        self._foreign = True
        for page, decoder in list(self._pages.items()):
            try:
                decoder.decode(text.encode(page))
            except UnicodeError:
                del self._pages[page]
        # A cut surrogate is held back by the decoder; a lone one has become U+FFFD.
        return text.encode(self._recipe.page, "replace") if self._recipe.page else text.encode()

    def _lines(self, block: bytes) -> bytes:
        if self._carry:
            block, self._carry = self._carry + block, b""
        if b"\r" not in block:
            if self._strip is None and b"\n" in block:
                self._strip = False
            self.bare += block.count(b"\n") if self._strip else 0
            return block
        if block.endswith(b"\r"):
            # One or more at the end: what follows decides what they are.
            kept = block.rstrip(b"\r")
            self._carry, block = block[len(kept) :], kept
        if self._strip is None and (first := block.find(b"\n")) >= 0:
            self._strip = block[first - 1 : first] == b"\r" if first else False
        if not self._strip:
            return block
        ends = block.count(b"\n")
        plain = block.replace(b"\r\n", b"\n")
        stripped = len(block) - len(plain)
        self.stripped += stripped
        self.bare += ends - stripped
        self.doubled += plain.count(b"\r\n") if b"\r" in plain else 0
        return plain
