"""Templates without branches and variables as one function each: a third of the time that walking their tree takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from .data import LabelMap
from .fmt import written
from .nodes import Access, Constant, Dot, Function, Operand, Pipe, Template
from .parse import TemplateError
from .run import MAX_OUTPUT, Functions, called

Get: TypeAlias = "Callable[[Mapping[str, str]], Any]"
_LAZY = ("and", "or")  # these do not look at all of their arguments


class _Crooked(Exception):
    """A template has more than this module knows."""


def straight(template: Template, functions: Functions) -> Callable[[Mapping[str, str]], str] | None:
    """What `run` makes of data that is a dictionary of texts; None for a template with branches and the like.

    The function raises TemplateError, as `run` does.
    """
    try:
        parts = [node if isinstance(node, str) else _pipe(node, functions) for node in template.nodes]
    except _Crooked:
        return None
    if len(parts) == 1 and not isinstance(get := parts[0], str):
        return lambda data: _bounded(written(get(data)))

    def text(data: Mapping[str, str]) -> str:
        return _bounded("".join([part if isinstance(part, str) else written(part(data)) for part in parts]))

    return text


def _bounded(text: str) -> str:
    if len(text) > MAX_OUTPUT:
        raise TemplateError(f"it writes more than {MAX_OUTPUT} characters")
    return text


def _pipe(node: object, functions: Functions) -> Get:
    if not isinstance(node, Pipe) or node.variables:
        raise _Crooked
    get: Get | None = None
    for command in node.commands:
        get = _command(command, functions, get)
    assert get is not None  # a pipe has a command
    return get


def _command(command: tuple[Operand, ...], functions: Functions, final: Get | None) -> Get:
    first, rest = command[0], command[1:]
    if not isinstance(first, Function):
        if rest or final is not None:
            raise _Crooked  # always a fault
        return _operand(first, functions)
    if first.name in _LAZY:
        raise _Crooked
    name, call = first.name, functions[first.name]
    arguments = [_operand(operand, functions) for operand in rest]
    if final is not None:
        arguments.append(final)
    if len(arguments) == 1:
        (only,) = arguments
        return lambda data: called(name, call, (only(data),))
    return lambda data: called(name, call, [get(data) for get in arguments])


def _operand(operand: Operand, functions: Functions) -> Get:
    match operand:
        case Constant(value):
            return lambda _: value
        case Access(Dot(), name):
            # A dictionary whose missing values are empty says so itself (LabelMap).
            return lambda data: data[name] if name in data else "" if isinstance(data, LabelMap) else None
        case Function():
            return _command((operand,), functions, None)
        case Pipe():
            return _pipe(operand, functions)
    raise _Crooked
