"""Promtail's Unix, UnixMs, UnixUs and UnixNs: numbers since 1970, parsed for whole columns at once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

NS = 1_000_000_000
FACTORS = {"Unix": NS, "UnixMs": 1_000_000, "UnixUs": 1_000, "UnixNs": 1}


def parse(values: pa.Array, factor: int) -> pa.Array:
    """Unix, UnixMs, UnixUs, UnixNs: integers; `Unix` may have a fraction, as Promtail takes it."""
    whole = pc.match_substring_regex(values, r"^-?\d{1,19}$")
    text = pc.if_else(whole, values, None)
    try:
        result = pc.multiply_checked(pc.cast(text, pa.int64()), factor)
    except pa.ArrowInvalid:
        exactly = [None if v is None else int(v) * factor for v in text.to_pylist()]
        result = pa.array([v if v is not None and abs(v) < 2**63 else None for v in exactly], pa.int64())
    if factor != NS:
        return result
    broken = pc.if_else(
        pc.match_substring_regex(values, r"^-?\d{1,9}\.\d{1,18}$|^-?[1-8]\d{9}\.\d{1,18}$"), values, None
    )
    if broken.null_count == len(broken):
        return result
    exact = [None if v is None else _fractional(v) for v in broken.to_pylist()]
    return pc.coalesce(result, pa.array(exact, pa.int64()))


def _fractional(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * NS + (-1 if whole.startswith("-") else 1) * int(fraction[:9].ljust(9, "0"))
