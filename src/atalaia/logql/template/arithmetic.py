"""Functions of numbers. What is no number counts as 0, as in sprig; whole numbers have 64 bits and wrap around."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal, DecimalException, localcontext
from functools import reduce
from typing import Any

from .. import values
from .parse import TemplateError


def _wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def whole(value: Any) -> int:
    """Any value as a whole number."""
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and abs(value) < 2**63 else -(2**63)
    if isinstance(value, str):
        try:
            text = value.removesuffix(".0") if value.endswith(".0") else value
            found = int(text, 8) if text.lstrip("+-").startswith("0") and text.isdigit() else int(text, 0)
        except ValueError:
            return 0
        return found if abs(found) < 2**63 else 0
    return int(value) if isinstance(value, int) else 0


def real(value: Any) -> float:
    """Any value as a number."""
    if isinstance(value, str):
        return values.number(value) or 0.0
    return float(value) if isinstance(value, (int, float)) else 0.0


def _wholes(operation: Callable[[int, int], int]) -> Callable[..., int]:
    return lambda first, *rest: _wrapped(reduce(operation, map(whole, rest), whole(first)))


def _decimals(operation: Callable[[Decimal, Decimal], Decimal]) -> Callable[..., float]:
    """Decimal arithmetic, so that 0.1 and 0.2 are 0.3."""

    def run(first: Any, *rest: Any) -> float:
        try:
            with localcontext(prec=400):
                return float(reduce(operation, (Decimal(repr(real(v))) for v in rest), Decimal(repr(real(first)))))
        except DecimalException:
            raise TemplateError("not a number that can be reckoned with") from None

    return run


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise TemplateError("integer divide by zero")
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _quotient(left: Decimal, right: Decimal) -> Decimal:
    return (left / right).quantize(Decimal("1e-16"), ROUND_HALF_UP)


def _round(value: Any, places: Any, half: float = 0.5) -> float:
    power = math.pow(10.0, real(places))
    digits = real(value) * power
    if not math.isfinite(digits):
        return digits
    above = math.modf(digits)[0] >= half
    return float(math.ceil(digits) if above else math.floor(digits)) / power


def _floating(function: Callable[[float], int]) -> Callable[[Any], float]:
    return lambda value: float(function(real(value))) if math.isfinite(real(value)) else real(value)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "int": whole,
    "float64": real,
    "add": _wholes(lambda a, b: a + b),
    "sub": lambda left, right: _wrapped(whole(left) - whole(right)),
    "mul": _wholes(lambda a, b: a * b),
    "div": lambda left, right: _divided(whole(left), whole(right)),
    "mod": lambda left, right: whole(left) - _divided(whole(left), whole(right)) * whole(right),
    "addf": _decimals(lambda a, b: a + b),
    "subf": _decimals(lambda a, b: a - b),
    "mulf": _decimals(lambda a, b: a * b),
    "divf": _decimals(_quotient),
    "max": lambda *found: max(map(whole, found)),
    "min": lambda *found: min(map(whole, found)),
    "maxf": lambda *found: max(map(real, found)),
    "minf": lambda *found: min(map(real, found)),
    "ceil": _floating(math.ceil),
    "floor": _floating(math.floor),
    "round": _round,
}
