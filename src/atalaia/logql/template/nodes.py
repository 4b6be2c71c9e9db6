"""The tree of a template."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, number, boolean or nil."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`: the data, or what range and with put in its place."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name`; `$` alone is the data."""

    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function, called with the arguments behind it."""

    name: str


@dataclass(frozen=True, slots=True)
class Access:
    """`of.name`: what is called so in `of`."""

    of: Operand
    name: str


@dataclass(frozen=True, slots=True)
class Pipe:
    """`$a, $b := command | command`: each command gets the result of the one before as its last argument.

    `assigns`: with `=`, the variables are there already. A command is its operands.
    """

    commands: tuple[tuple[Operand, ...], ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False


Operand: TypeAlias = Constant | Dot | Variable | Function | Access | Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`: `word` says which; `other` is what stands behind else."""

    word: str
    pipe: Pipe
    body: tuple[Node, ...]
    other: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """`{{template "name" pipe}}`."""

    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Leave:
    """`{{break}}` or `{{continue}}`."""

    word: str


Node: TypeAlias = str | Pipe | Branch | Call | Leave


@dataclass(frozen=True, slots=True)
class Template:
    """A template's nodes and the templates that it defines."""

    nodes: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]] = field(default_factory=dict)
