"""Label values as numbers, durations and sizes in SQL: the usual ones; functions of values.py read the others.

All is exact: durations are compared as decimals, in the unit that they are written in.
"""

from __future__ import annotations

from collections.abc import Callable

from .sqltext import let, literal

# Decimals that DuckDB's own cast reads, and reads to something finite.
_NUMBER = literal(r"^[+-]?(?:[0-9]{1,99}(?:\.[0-9]{0,99})?|\.[0-9]{1,99})(?:[eE][+-]?[0-9]{1,2})?$")
# Such as int64 can hold in ns.
_DURATION = literal(r"^(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|μs|ms|s)|[0-9]{1,6}(?:\.[0-9]{1,9})?[mh])$")
_SIZE = literal(r"^[0-9]{1,9}(?:\.[0-9]{1,9})?\s*[kKmMgG]?[iI]?[bB]?$")
_DIGITS = literal("^[0-9.]+")
# The longer suffix first.
_NS = {"ms": 10**6, "µs": 10**3, "μs": 10**3, "us": 10**3, "ns": 1, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_BYTES = {f"{p}{b}": 1000 ** (n + 1) for n, p in enumerate("kmg") for b in ("", "b")}
_BYTES |= {f"{p}i{b}": 1024 ** (n + 1) for n, p in enumerate("kmg") for b in ("", "b")}
_BYTES |= {"": 1, "b": 1}
_BILLION = 10**9  # a plain duration is less of its unit, and has no smaller parts of it than billionths


def read(text: str, kind: str) -> str:
    """SQL of a sample: a number, seconds, bytes; NULL for none and for what cannot be read. See unwrap.read."""
    return f"COALESCE({_plain(text, kind)}, CASE WHEN {text} IS NOT NULL THEN read_label({text}, {literal(kind)}) END)"


def code(label: str, kind: str, op: str, wanted: float) -> str:
    """SQL of values.compare; a label that is NULL fails."""
    slowly = f"compare_label({label}, {literal(kind)}, {literal(op)}, {literal(repr(wanted))})"
    if kind == "duration" and wanted == int(wanted):
        passes = _per_unit(label, lambda count, ns: _longer(op, int(wanted), count, ns))
    elif kind == "duration":
        return slowly
    else:
        passes = f"({_plain(label, kind)} {_operator(op)} {wanted!r}::DOUBLE)"
    return f"COALESCE({passes}::INTEGER, {slowly})"


def _operator(op: str) -> str:
    return {"==": "=", "!=": "<>"}.get(op, op)


def _plain(text: str, kind: str) -> str:
    if kind == "number":
        return f"TRY_CAST(regexp_extract({text}, {_NUMBER}) AS DOUBLE)"
    if kind == "duration":
        product = "floor({}::DECIMAL(24, 9) * {}::DECIMAL(14, 0))".format
        whole = _per_unit(text, lambda count, ns: f"{product(count, ns)}::BIGINT")
        return f"({whole} / 1e9::DOUBLE)"
    cases = " ".join(f"WHEN {literal(unit)} THEN {factor}" for unit, factor in _BYTES.items())
    unit = f"CASE lower(trim(ltrim(d, '0123456789.'))) {cases} END"
    found = f"CASE WHEN d <> '' THEN trunc(regexp_extract(d, {_DIGITS}, 0)::DOUBLE * {unit}) END"
    return let("d", f"regexp_extract({text}, {_SIZE}, 0)", found)


def _per_unit(text: str, result: Callable[[str, int], str]) -> str:
    """SQL of the result for a duration of so many (SQL) of a unit of so many ns; NULL for what is no plain one."""
    cases = (
        f"WHEN suffix(d, '{unit}') THEN {result(f'left(d, -{len(unit)})::DECIMAL(18, 9)', ns)}"
        for unit, ns in _NS.items()
    )
    return let("d", f"regexp_extract({text}, {_DURATION}, 0)", f"CASE {' '.join(cases)} END")


def _longer(op: str, wanted: int, count: str, ns: int) -> str:
    """SQL of the comparison of a duration, in whole ns, with another one."""

    def at_least(limit: int) -> str:
        billionths = -(-limit * _BILLION // ns)
        if not 0 < billionths < _BILLION * _BILLION:
            return "true" if billionths <= 0 else "false"
        return f"({count} >= {billionths // _BILLION}.{billionths % _BILLION:09d}::DECIMAL(18, 9))"

    low, high = at_least(wanted), at_least(wanted + 1)
    tests = {">=": low, "<": f"NOT {low}", ">": high, "<=": f"NOT {high}", "==": f"({low} AND NOT {high})"}
    return tests.get(op, f"NOT {tests['==']}")
