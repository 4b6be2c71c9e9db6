"""Text to tree: what stands between `{{` and `}}`, and what is around it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ..literals import unquote
from .nodes import Access, Branch, Call, Constant, Dot, Function, Leave, Node, Operand, Pipe, Template, Variable


class TemplateError(ValueError):
    """A template cannot be read, or cannot be run over an entry."""


_DEPTH = 100
_ACTION = re.compile(
    r"\{\{(?:-(?=\s))?\s*(?:/\*(?s:.*?)\*/\s*(?:(?<=\s)-)?\}\}"
    r"|(?P<inside>(?:\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|'(?:[^'\\\n]|\\.)*'|(?!-?\}\})[^\"`'])*?)\s*(?:(?<=\s)-)?\}\})"
)
_TOKEN = re.compile(
    r"(?P<blank>\s+)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`)"
    r"|(?P<rune>'(?:[^'\\\n]|\\.)+')"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))"
    r"|(?P<field>\.[A-Za-z_]\w*)|(?P<variable>\$\w*)|(?P<word>[A-Za-z_]\w*)|(?P<sign>:=|[.|(),=])"
)
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}
_WORDS = frozenset({"if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"})


def parse(text: str, functions: Collection[str]) -> Template:
    """Read a template that may call the functions. Raises TemplateError."""
    return _Parser(text, functions).template()


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Texts, trimmed where a delimiter says so, and the insides of actions."""
    at, trim = 0, False
    while True:
        begin = text.find("{{", at)
        plain = text[at:] if begin < 0 else text[at:begin]
        if trim:
            plain = plain.lstrip(" \t\r\n")
        if begin < 0:
            yield "text", plain
            return
        action = _ACTION.match(text, begin)
        if action is None:
            raise TemplateError("unclosed action")
        if re.match(r"\{\{-\s", action[0]):
            plain = plain.rstrip(" \t\r\n")
        yield "text", plain
        if action["inside"] is not None:
            yield "action", action["inside"]
        at, trim = action.end(), bool(re.search(r"\s-\}\}$", action[0]))


class _Tokens:
    """The tokens of one action; blanks are kept, for `f .a` is not `f.a`."""

    def __init__(self, text: str) -> None:
        self.all: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise TemplateError(f"unexpected {text[at : at + 10]!r} in an action")
            self.all.append((token.lastgroup or "", token[0]))
            at = token.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.all[self.at] if self.at < len(self.all) else ("end", "")

    def next(self) -> tuple[str, str]:
        found = self.peek()
        self.at += 1
        return found

    def skip(self) -> None:
        if self.peek()[0] == "blank":
            self.at += 1

    def take(self, text: str) -> bool:
        """Whether this sign, or word, comes next; it is passed then."""
        self.skip()
        if self.peek()[1] != text or self.peek()[0] == "string":
            return False
        self.at += 1
        return True

    def name(self) -> str:
        self.skip()
        kind, text = self.next()
        if kind != "string":
            raise TemplateError(f"unexpected {text or 'end'!r}; the name of a template is a string")
        return unquote(text)

    def end(self) -> None:
        self.skip()
        kind, text = self.peek()
        if kind != "end":
            raise TemplateError(f"unexpected {text!r} in an action")


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._pieces = _pieces(text)
        self._functions = functions
        self._defined: dict[str, tuple[Node, ...]] = {}
        self._variables = ["$"]
        self._loops = self._depth = 0

    def template(self) -> Template:
        nodes, word, _ = self._list()
        if word:
            raise TemplateError(f"unexpected {{{{{word}}}}}")
        return Template(nodes, self._defined)

    def _list(self) -> tuple[tuple[Node, ...], str, _Tokens | None]:
        """Nodes up to else or end, which word it was, and what is behind the word."""
        nodes: list[Node] = []
        for kind, text in self._pieces:
            if kind == "text":
                if text:
                    nodes.append(text)
                continue
            tokens = _Tokens(text)
            tokens.skip()
            word = tokens.peek()[1] if tokens.peek()[0] == "word" else ""
            if word not in _WORDS:
                nodes.append(self._pipe(tokens))
                tokens.end()
                continue
            tokens.next()
            if word in ("else", "end"):
                return tuple(nodes), word, tokens
            nodes += self._control(word, tokens)
        return tuple(nodes), "", None

    def _control(self, word: str, tokens: _Tokens) -> list[Node]:
        if word in ("break", "continue"):
            if not self._loops:
                raise TemplateError(f"{{{{{word}}}}} outside {{{{range}}}}")
            return [Leave(word)]
        if word == "template":
            name = tokens.name()
            tokens.skip()
            call = Call(name, None if tokens.peek()[0] == "end" else self._pipe(tokens))
            tokens.end()
            return [call]
        if word in ("define", "block"):
            name = tokens.name()
            pipe = self._pipe(tokens) if word == "block" else None
            tokens.end()
            kept, self._variables = self._variables, ["$"]
            self._defined[name] = self._body("")[0]
            self._variables = kept
            return [Call(name, pipe)] if word == "block" else []
        return [self._branch(word, tokens)]

    def _branch(self, word: str, tokens: _Tokens) -> Branch:
        scope = len(self._variables)
        pipe = self._pipe(tokens, in_range=word == "range")
        tokens.end()
        self._loops += word == "range"
        body, ending, rest = self._body(word)
        self._loops -= word == "range"
        other: tuple[Node, ...] = ()
        if ending == "else" and rest is not None:
            again = next((w for w in ("if", "with") if word == w and rest.take(w)), None)
            rest.end() if again is None else None
            other = (self._branch(again, rest),) if again else self._body("")[0]
        del self._variables[scope:]
        return Branch(word, pipe, body, other)

    def _body(self, word: str) -> tuple[tuple[Node, ...], str, _Tokens | None]:
        """The nodes up to end, or for a branch up to its else."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise TemplateError(f"it nests more than {_DEPTH} deep")
        scope = len(self._variables)
        nodes, ending, rest = self._list()
        del self._variables[scope:]
        self._depth -= 1
        if ending != "end" and not (word and ending == "else"):
            raise TemplateError(f"unexpected {{{{{ending}}}}}" if ending else "unexpected end; {{end}} is missing")
        return nodes, ending, rest

    def _pipe(self, tokens: _Tokens, *, in_range: bool = False) -> Pipe:
        variables, assigns = self._declared(tokens, in_range)
        commands = [self._command(tokens)]
        while tokens.take("|"):
            commands.append(self._command(tokens))
        if not assigns:
            self._variables += variables
        return Pipe(tuple(commands), variables, assigns)

    def _declared(self, tokens: _Tokens, in_range: bool) -> tuple[tuple[str, ...], bool]:
        """The variables in front of := or =; without one of these, nothing is passed."""
        tokens.skip()
        begin, names = tokens.at, list[str]()
        while tokens.peek()[0] == "variable" and len(names) < 2:
            names.append(tokens.next()[1])
            for sign in (":=", "="):
                if (len(names) == 1 or in_range) and tokens.take(sign):
                    if sign == "=":
                        self._known(*names)
                    return tuple(names), sign == "="
            if not tokens.take(","):
                break
            tokens.skip()
        tokens.at = begin
        return (), False

    def _known(self, *names: str) -> None:
        for name in names:
            if name not in self._variables:
                raise TemplateError(f"undefined variable {name!r}")

    def _command(self, tokens: _Tokens) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while True:
            tokens.skip()
            kind, text = tokens.peek()
            if kind == "end" or text in ("|", ")"):
                break
            operands.append(self._operand(tokens))
            kind, text = tokens.peek()
            if kind not in ("end", "blank") and text not in ("|", ")"):
                raise TemplateError(f"unexpected {text!r} in operand")
        if not operands:
            raise TemplateError("missing value for command")
        return tuple(operands)

    def _operand(self, tokens: _Tokens) -> Operand:
        kind, text = tokens.next()
        found = self._term(kind, text, tokens)
        while tokens.peek()[0] == "field":
            found = Access(found, tokens.next()[1][1:])
        return found

    def _term(self, kind: str, text: str, tokens: _Tokens) -> Operand:
        if kind == "string":
            return Constant(unquote(text))
        if kind == "number":
            return Constant(_number(text))
        if kind == "rune":
            character = unquote('"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"')
            if len(character) != 1:
                raise TemplateError(f"malformed character constant {text}")
            return Constant(ord(character))
        if kind == "field":
            return Access(Dot(), text[1:])
        if kind == "variable":
            self._known(text)
            return Variable(text)
        if kind == "word" and text in _CONSTANTS:
            return Constant(_CONSTANTS[text])
        if kind == "word" and text not in _WORDS:
            if text not in self._functions:
                raise TemplateError(f'function "{text}" not defined')
            return Function(text)
        if text == ".":
            return Dot()
        if text != "(":
            raise TemplateError(f"unexpected {text!r} in command")
        self._depth += 1
        if self._depth > _DEPTH:
            raise TemplateError(f"it nests more than {_DEPTH} deep")
        inner = self._pipe(tokens)
        self._depth -= 1
        if not tokens.take(")"):
            raise TemplateError("unclosed left paren")
        return inner


def _number(text: str) -> int | float:
    """A number as Go writes them, octals with a leading 0 too."""
    plain = text.replace("_", "")
    try:
        if re.fullmatch(r"[+-]?0[0-7]+", plain):
            return int(plain, 8)
        return int(plain, 0)
    except ValueError:
        return float(plain)
