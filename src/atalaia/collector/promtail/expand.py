"""`${VAR}` in a configuration, as Promtail's -config.expand-env replaces it before the YAML is read.

What is understood is what the Go package drone/envsubst 1.0.3 understands: `${V}`, `${V:-default}` (also `:=`, `:?`,
`:+`, `=`: all of them give the default when V is empty or not set), `${#V}`, `${V,}` `${V,,}` `${V^}` `${V^^}`,
`${V:offset:length}`, `${V#pattern}` `${V##pattern}` `${V%pattern}` `${V%%pattern}`, `${V/from/to}` `${V//from/to}`
`${V/#from/to}` `${V/%from/to}`. Arguments may hold `${…}`. `$$` gives `$`; `\\\\` gives a single backslash. A variable
that is not set is empty.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[^\W]+")
_DEFAULT = re.compile(r":[=\-?+]|=")
_CASING = re.compile(r"[,^]{1,2}")
_REPLACING = re.compile(r"/[/#%]?")
_REMOVING = re.compile(r"##?|%%?")
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


class ExpandError(ValueError):
    """A `${…}` cannot be read. `line` is where it stands, from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with each `${…}` replaced. Raises ExpandError."""
    return _Expansion(text, variables).whole()


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0

    def whole(self) -> str:
        parts = []
        while self._at < len(self._text):
            parts.append(self._function() if self._begins("${") else self._plain(lambda _: True, escapes=True))
        return "".join(parts)

    def _begins(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _wrong(self, what: str) -> ExpandError:
        return ExpandError(what, self._text.count("\n", 0, self._at) + 1)

    def _plain(self, accepts: Callable[[str], bool], escapes: bool = False) -> str:
        """Text up to the next `${` or what is not accepted."""
        taken = []
        while self._at < len(self._text) and not self._begins("${"):
            character = self._text[self._at]
            if escapes and self._text[self._at : self._at + 2] in ("$$", "\\\\", "\\/"):
                self._at += 1
                character = self._text[self._at]
            elif not accepts(character):
                break
            taken.append(character)
            self._at += 1
        return "".join(taken)

    def _close(self, result: str) -> str:
        if not self._begins("}"):
            raise self._wrong("a ${ has no }")
        self._at += 1
        return result

    def _argument(self, accepts: Callable[[str], bool], escapes: bool = False) -> str:
        """One argument: a `${…}`, or text that is not empty."""
        if self._begins("${"):
            return self._function()
        begun = self._at
        text = self._plain(accepts, escapes)
        if self._at == begun:
            raise self._wrong("a ${ has an empty argument or no }")
        return text

    def _function(self) -> str:
        self._at += 2
        if self._begins("#"):
            self._at += 1
            return self._close(str(len(self._value().encode())))
        value = self._value()
        if self._begins("}"):
            return self._close(value)
        if self._take(_DEFAULT):
            return self._default(value)
        if self._begins(":"):
            return self._part(value)
        if casing := self._take(_CASING):
            return self._close(_CASES.get(casing, str)(value))
        if removing := self._take(_REMOVING):
            return self._close(_removed(value, removing, self._argument(_not_closing)))
        if replacing := self._take(_REPLACING):
            return self._replaced(value, replacing)
        raise self._wrong("a ${ has no }")

    def _value(self) -> str:
        name = self._take(_NAME)
        if not name:
            raise self._wrong("a ${ has no variable's name")
        return self._variables.get(name, "")

    def _default(self, value: str) -> str:
        default = ""
        while not self._begins("}"):
            default += self._argument(_not_closing)
        return self._close(value or default)

    def _part(self, value: str) -> str:
        self._at += 1
        arguments = [self._argument(lambda character: character not in ":}")]
        if self._begins(":"):
            self._take(re.compile(":+"))
            arguments.append(self._argument(_not_closing))
        self._close("")
        if not all(_WHOLE.fullmatch(argument) for argument in arguments):
            return value  # which is also what `${VAR:default}` gives
        data = value.encode()
        start, *length = map(int, arguments)
        start = max(0, len(data) + start) if start < 0 else start
        end = start + length[0] if length else len(data)
        if length and length[0] < 0:
            raise self._wrong("a ${ has a negative length")
        return data[start:end].decode("utf-8", "replace")

    def _replaced(self, value: str, how: str) -> str:
        old = self._argument(lambda character: character != "/", escapes=True)
        if not self._take(re.compile("/+")):
            raise self._wrong("a ${ has no second /")
        if self._begins("}"):
            return self._close(value if len(how) == 2 and how != "//" else value.replace(old, "", _counts(how)))
        new = self._argument(_not_closing, escapes=True)
        if how == "/#":
            return self._close(new + value.removeprefix(old) if value.startswith(old) else value)
        if how == "/%":
            return self._close(value.removesuffix(old) + new if value.endswith(old) else value)
        return self._close(value.replace(old, new, _counts(how)))


def _not_closing(character: str) -> bool:
    return character != "}"


def _counts(how: str) -> int:
    return 1 if how == "/" else -1


_CASES: Mapping[str, Callable[[str], str]] = {
    ",": lambda text: text[:1].lower() + text[1:],
    ",,": str.lower,
    "^": lambda text: text[:1].upper() + text[1:],
    "^^": str.upper,
}


def _removed(value: str, how: str, pattern: str) -> str:
    """The value without a beginning (#) or end (%) that matches the glob, the shortest or (##, %%) the longest."""
    matches = re.compile(fnmatch.translate(pattern)).match
    sizes = range(1, len(value) + 1)
    if how[0] == "#":
        found = [size for size in sizes if matches(value[:size])]
    else:
        found = [size for size in sizes if matches(value[len(value) - size :])]
    if not found:
        return value
    size = found[-1] if len(how) == 2 else found[0]
    return value[size:] if how[0] == "#" else value[: len(value) - size]
