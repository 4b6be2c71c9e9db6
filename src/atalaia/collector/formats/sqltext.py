"""SQL without its literals: strings, numbers and bit strings become `?`, comments a space; the rest stays.

Read as PostgreSQL's scanner does (its manual, "Lexical Structure"). What is open at the end of a cut-off statement, and
what cannot be decided (a backslash before a quote, whose meaning is a setting; nested comments), is taken to the end.
"""

from __future__ import annotations

import re

# No possessive quantifiers: Python before 3.11.5 matches them wrongly (gh-106052). Each loop has one way to match
# instead, so that nothing is tried twice.
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_WORD = rf"[{_LETTER}][{_LETTER}0-9$]*"
# What EXPLAIN writes of its own accord.
_COST = r"\((?:cost=[0-9.]+[ ]rows=[0-9]+[ ]width=[0-9]+|actual[ ](?:time=[0-9.]+[ ])?rows=[0-9.]+[ ]loops=[0-9]+)\)"


def tokens(stop: str | None = None) -> re.Pattern[str]:
    """The scanner. Its groups: `kept`, `comment`, `literal` and, for the expression `stop`, `stop`."""
    ahead = f"(?!{stop})" if stop else ""
    first = f"(?P<stop>{stop})|" if stop else ""
    return re.compile(
        rf"""{first}
        (?P<kept>(?:{ahead}(?:{_COST}|{_WORD}(?![{_LETTER}0-9$]|&?')|\$[0-9]+(?![0-9{_LETTER}$'])
            |[^{_LETTER}0-9'"$/.-]|-(?!-)|/(?!\*)|\.(?![0-9])|\$(?![{_LETTER}0-9$])))+
            |"[^"]*(?:""[^"]*)*"(?!"))
        |(?P<comment>--[^\n]*|/\*(?:(?:[^*/]|\*(?!/)|/(?!\*))*\*/|[\s\S]*))
        |(?P<literal>[eE]'[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*(?:'(?!')|\\?\Z)
            |(?:[uU]&|[bBxXnN])?'[^'\\]*(?:(?:''|\\(?!'))[^'\\]*)*(?:'(?!')|\\'[\s\S]*|\Z)
            |\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*)?)\$[\s\S]*?(?:\$(?P=tag)\$|\Z)
            |(?:[0-9]|\.[0-9])[{_LETTER}0-9$.]*(?:(?<=[eE])[+-][0-9][{_LETTER}0-9$.]*)?
            |"[\s\S]*)
        |(?P<odd>{_WORD}|\$[0-9]*|[\s\S])""",
        re.VERBOSE,
    )


_TOKENS = tokens()


def shown(match: re.Match[str]) -> str:
    """What stands for a token."""
    kind = match.lastgroup
    return "?" if kind == "literal" else " " if kind == "comment" else match[0]


def without_literals(sql: str) -> str:
    """A statement, or several, without literals."""
    return _TOKENS.sub(shown, sql)


def until(scanner: re.Pattern[str], text: str, start: int) -> tuple[str, int]:
    """The SQL from `start` to where the scanner (of `tokens`) stops, without literals, and where that is."""
    pieces: list[str] = []
    for match in scanner.finditer(text, start):
        if match.lastgroup == "stop":
            return "".join(pieces), match.start()
        pieces.append(shown(match))
    return "".join(pieces), len(text)
