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
    parts = pc.extract_regex(values, r"^(?P<whole>-?\d{1,9}|-?[1-8]\d{9})\.(?P<fraction>\d{1,18})$")
    if parts.null_count == len(parts):
        return result
    there = pc.is_valid(parts)
    seconds = pc.if_else(there, parts.field("whole"), None).cast(pa.int64())
    digits = pc.if_else(there, parts.field("fraction"), None)
    ns = pc.utf8_slice_codeunits(pc.utf8_rpad(digits, 9, "0"), 0, 9).cast(pa.int64())
    # As in Promtail, a fraction is always added: -1.5 is half a second before 1970.
    return pc.coalesce(result, pc.add(pc.multiply(seconds, NS), ns))
