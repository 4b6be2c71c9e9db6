"""What requests that are nearly right are made of."""

from __future__ import annotations

import random

from tests.integration.api_support import NOW, S

QUERIES = [
    '{app="a"}', '{app=~"a|b", x!~"c.+"} |= "x" or "y" != "z" |~ "a.b" !~ "(?i)q"', '{app="a"} | json | x > 5 or y="z"',
    '{app="a"} | logfmt --strict | d >= 1.5s, s < 20MB', '{app="a"} | json a="x.y[0]", b | a=~".+"',
    '{app="a"} | logfmt a="b" | __error__=""', 'sum by (app, x) (count_over_time({app="a"} | json [5m] offset 1h))',
    'topk(3, rate({app="a"}[1m]))', 'avg without (x) (bytes_rate({app="a"} |= "x" [30s]))', 'sort(rate({app="a"}[1m]))',
    'bottomk by (x) (1, bytes_over_time({app="a"} | logfmt [7s]))', "vector(1)", "1 + 1",
    'quantile_over_time(0.9, {app="a"} | unwrap x [1m]) by (app)', '{app="a"} | line_format "{{.x}}" | drop x',
    'label_replace(rate({app="a"}[1m]), "a", "$1", "b", "(.*)")', '{app="a"} |> "<_>x" | pattern "<a> b"',
]  # fmt: skip
VALUES = [
    *QUERIES, "", "0", "-1", "1e99", "NaN", "x", "\0", "%", "é", "9" * 40, str(NOW), str(NOW + S),
    "2024-01-01T00:00:00Z",
    "1m", "0s", "-5m", "1e-9", "backward", "FORWARD", "100", "5001", "{}", "{", "'", '"', "\\", "\ud7ff", "1" * 5000,
]  # fmt: skip
PIECES = [*'{}()[]"`\\|=~!<>,.+-*/^%#\n\0 é', "json", "logfmt", "unwrap x", "by", "or", "[5m]", "offset", "1e999", "'"]


def changed(text: str, rng: random.Random) -> str:
    """The text with a few places cut, doubled or replaced."""
    for _ in range(rng.randrange(1, 4)):
        at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        to = min(to, at + 4)
        text = text[:at] + rng.choice(["", text[at:to] * 2, rng.choice(PIECES)]) + text[to:]
    return text
