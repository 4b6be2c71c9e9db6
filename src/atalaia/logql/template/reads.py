"""Which names of its data a template reads."""

from __future__ import annotations

from collections.abc import Iterator

from .nodes import Access, Branch, Call, Dot, Function, Node, Operand, Pipe, Template, Variable


def names(template: Template) -> frozenset[str] | None:
    """The names that may be read; None where all of the data is used at once (`range .`, `toJson .`)."""
    found: set[str] = set()
    whole = list(_nodes(template.nodes, found, True))
    for nodes in template.defined.values():
        whole += _nodes(nodes, found, False)
    return None if any(whole) else frozenset(found)


def plain(template: Template) -> list[tuple[str, bool]] | None:
    """The texts, and the names (with True), of a template that has nothing else; None for any other."""
    parts = []
    for node in template.nodes:
        match node:
            case str():
                parts.append((node, False))
            case Pipe(((Access(Dot(), name),),), ()):
                parts.append((name, True))
            case _:
                return None
    return parts


def functions(template: Template) -> frozenset[str]:
    """The functions that may be called."""
    waiting: list[object] = [template.nodes, list(template.defined.values())]
    found = set()
    while waiting:
        match waiting.pop():
            case Function(name):
                found.add(name)
            case Pipe(commands):
                waiting += commands
            case Access(of):
                waiting.append(of)
            case Branch(_, pipe, body, other):
                waiting += [pipe, body, other]
            case Call(_, pipe):
                waiting.append(pipe)
            case tuple() | list() as several:
                waiting += several
    return frozenset(found)


def _nodes(nodes: tuple[Node, ...], found: set[str], top: bool) -> Iterator[bool]:
    """Whether each use of the data is one of all of it; `top`: whether `.` is the data."""
    for node in nodes:
        match node:
            case Pipe():
                yield from _operand(node, found, top)
            case Branch(word, pipe, body, other):
                yield from _operand(pipe, found, top)
                yield from _nodes(body, found, top and word == "if")
                yield from _nodes(other, found, top)
            case Call(_, pipe) if pipe is not None:
                yield from _operand(pipe, found, top)


def _operand(operand: Operand, found: set[str], top: bool) -> Iterator[bool]:
    match operand:
        case Access(Dot() | Variable("$"), name):
            found.add(name)
        case Access(of):
            yield from _operand(of, found, top)
        case Pipe(commands):
            for command in commands:
                for one in command:
                    yield from _operand(one, found, top)
        case Dot():
            yield top
        case Variable("$"):
            yield True
