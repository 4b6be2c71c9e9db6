"""Recorded samples as Prometheus' text, which a Prometheus scrapes.

The form: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from atalaia.logql.matrix import Labels
from atalaia.rules.evaluation import NAME

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def exposition(samples: Mapping[Labels, float]) -> str:
    """All samples, those of one metric together."""
    by_name: dict[str, list[str]] = {}
    for labels, value in sorted(samples.items()):
        name = dict(labels)[NAME]
        own = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels if key != NAME)
        by_name.setdefault(name, []).append(f"{name}{{{own}}} {_number(value)}" if own else f"{name} {_number(value)}")
    return "".join(f"# TYPE {name} gauge\n" + "\n".join(lines) + "\n" for name, lines in sorted(by_name.items()))


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
