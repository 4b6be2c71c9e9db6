"""A template over data: Go's rules of what is called, looked up, true, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .data import LabelMap
from .fmt import written
from .gotimes import Moment
from .nodes import Access, Branch, Call, Constant, Dot, Function, Leave, Node, Operand, Pipe, Template, Variable
from .parse import TemplateError

MAX_OUTPUT = 1 << 20  # characters that a template may make of one entry
_STEPS = 100_000  # nodes that may be run for one entry
_DEPTH = 100  # templates that call each other
Functions = Mapping[str, Callable[..., Any]]
_NOTHING = object()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


def run(template: Template, data: Any, functions: Functions) -> str:
    """What the template writes. Raises TemplateError."""
    running = _Run(template, functions)
    try:
        running.nodes(template.nodes, data, {"$": data})
    except RecursionError:
        raise TemplateError("it nests too deep") from None
    return "".join(running.written)


def is_true(value: Any) -> bool:
    """Zero, false, nil, and what is empty are not true."""
    return bool(value)


class _Run:
    def __init__(self, template: Template, functions: Functions) -> None:
        self._template = template
        self._functions = functions
        self._depth = 0
        self._left = _STEPS
        self._room = MAX_OUTPUT
        self.written: list[str] = []

    def nodes(self, nodes: tuple[Node, ...], dot: Any, variables: _Scope | dict[str, Any]) -> None:
        """Run nodes in a scope of their own; what is assigned in it stays assigned outside."""
        own = _Scope(variables)
        for node in nodes:
            self._left -= 1
            if self._left < 0:
                raise TemplateError("it takes too long")
            match node:
                case str():
                    self._write(node)
                case Pipe():
                    value = self._pipe(node, dot, own)
                    if not node.variables:
                        self._write(written(value))
                case Branch():
                    self._branch(node, dot, _Scope(own))
                case Call():
                    self._call_template(node, dot, own)
                case Leave():
                    raise _Break if node.word == "break" else _Continue

    def _write(self, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise TemplateError(f"it writes more than {MAX_OUTPUT} characters")
        self.written.append(text)

    def _branch(self, node: Branch, dot: Any, variables: _Scope) -> None:
        if node.word == "range":
            self._range(node, dot, variables)
            return
        value = self._pipe(node.pipe, dot, variables)
        if is_true(value):
            self.nodes(node.body, value if node.word == "with" else dot, variables)
        else:
            self.nodes(node.other, dot, variables)

    def _range(self, node: Branch, dot: Any, variables: _Scope) -> None:
        value = self._pipe(Pipe(node.pipe.commands), dot, variables)
        if isinstance(value, dict):
            items = sorted(value.items())
        elif isinstance(value, list):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(n, n) for n in range(min(value, self._left + 1))]
        elif value is None:
            items = []
        else:
            raise TemplateError(f"range can't iterate over {written(value)}")
        names = node.pipe.variables
        for key, item in items:
            scope = variables if node.pipe.assigns else _Scope(variables)
            for name, part in zip(names, (key, item) if len(names) == 2 else (item,), strict=False):
                scope.put(name, part, node.pipe.assigns)
            try:
                self.nodes(node.body, item, scope)
            except _Continue:
                continue
            except _Break:
                break
        if not items:
            self.nodes(node.other, dot, variables)

    def _call_template(self, node: Call, dot: Any, variables: _Scope) -> None:
        nodes = self._template.defined.get(node.name)
        if nodes is None:
            raise TemplateError(f'template "{node.name}" not defined')
        data = None if node.pipe is None else self._pipe(node.pipe, dot, variables)
        self._depth += 1
        if self._depth > _DEPTH:
            raise TemplateError("exceeded maximum template depth")
        self.nodes(nodes, data, {"$": data})
        self._depth -= 1

    def _pipe(self, pipe: Pipe, dot: Any, variables: _Scope) -> Any:
        value: Any = _NOTHING
        for command in pipe.commands:
            value = self._command(command, dot, variables, value)
        for name in pipe.variables:
            variables.put(name, value, pipe.assigns)
        return value

    def _command(self, command: tuple[Operand, ...], dot: Any, variables: _Scope, final: Any) -> Any:
        first, rest = command[0], command[1:]
        if isinstance(first, Access) and isinstance(of := self._value(first.of, dot, variables), Moment):
            given = [self._value(operand, dot, variables) for operand in rest]
            return _method(of, first.name, given if final is _NOTHING else [*given, final])
        if not isinstance(first, Function):
            if rest or final is not _NOTHING:
                raise TemplateError("can't give argument to non-function")
            return self._value(first, dot, variables)
        if first.name in ("and", "or"):
            # The arguments behind the one that decides are not looked at.
            value = _NOTHING
            for operand in rest:
                value = self._value(operand, dot, variables)
                if is_true(value) == (first.name == "or"):
                    return value
            if final is _NOTHING and value is _NOTHING:
                raise TemplateError(f"wrong number of args for {first.name}: want at least 1 got 0")
            return value if final is _NOTHING else final
        arguments = [self._value(operand, dot, variables) for operand in rest]
        return called(first.name, self._functions[first.name], arguments if final is _NOTHING else [*arguments, final])

    def _value(self, operand: Operand, dot: Any, variables: _Scope) -> Any:
        match operand:
            case Constant(value):
                return value
            case Dot():
                return dot
            case Variable(name):
                return variables.get(name)
            case Function(name):
                return self._command((operand,), dot, variables, _NOTHING)
            case Pipe():
                return self._pipe(operand, dot, variables)
            case Access(of, name):
                return _field(self._value(of, dot, variables), name)


def called(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """What a function gives. Raises TemplateError for whatever goes wrong in it."""
    try:
        found = function(*arguments)
    except TemplateError as error:
        raise TemplateError(f"error calling {name}: {error}") from None
    except (TypeError, AttributeError):
        raise TemplateError(f"wrong arguments for {name}") from None
    except (ValueError, ArithmeticError, LookupError) as error:
        raise TemplateError(f"wrong arguments for {name}: {error}") from None
    if isinstance(found, str) and len(found) > MAX_OUTPUT:
        raise TemplateError(f"{name} makes more than {MAX_OUTPUT} characters")
    return found


def _field(value: Any, name: str) -> Any:
    if isinstance(value, LabelMap):
        return value.get(name, "")
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, Moment):
        return _method(value, name, [])
    raise TemplateError(f"can't evaluate field {name} in {written(value)[:100]}")


def _method(moment: Moment, name: str, arguments: list[Any]) -> Any:
    try:
        return moment.method(name, arguments)
    except LookupError:
        raise TemplateError(f"a time has no method {name} with {len(arguments)} arguments here") from None
    except (TypeError, ValueError) as error:
        raise TemplateError(f"wrong arguments for {name}: {error}") from None


class _Scope:
    """Variables over those outside."""

    def __init__(self, outside: _Scope | dict[str, Any]) -> None:
        self._outside = outside
        self._own: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self._own[name] if name in self._own else self._outside.get(name)

    def put(self, name: str, value: Any, assigns: bool) -> None:
        if not assigns or name in self._own or not isinstance(self._outside, _Scope):
            self._own[name] = value
        else:
            self._outside.put(name, value, assigns)
