"""Counters and histograms, and the texts that Prometheus reads."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from atalaia.runtime import measures
from atalaia.runtime.measures import Counter, Family, Histogram, Sample, render


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")), st.floats(allow_nan=False), st.text('a\\\n" '))
def test_any_label_and_value_is_read_back(label: str, number: float, text: str) -> None:
    family = Family("a_total", "counter", f"h{text}", [Sample(number, (("l", label),))])
    for found in (list(read_text(render([family]))),):
        (sample,) = found[0].samples
        assert (sample.name, sample.labels, sample.value) == ("a_total", {"l": label}, number)


def test_openmetrics_names_counters_without_their_suffix() -> None:
    counter, gauge = Counter("c_total", "C.", ("x",)), Counter("g", "G.", gauge=True)
    counter.add(2, "1")
    counter.add(3, "1")
    gauge.add(2)
    gauge.add(-1)
    text = render([counter.family(), gauge.family(), Counter("never_total", "N.").family()], open_metrics=True)
    assert text == '# HELP c C.\n# TYPE c counter\nc_total{x="1"} 5\n# HELP g G.\n# TYPE g gauge\ng 1\n# EOF\n'
    assert {family.name for family in read_openmetrics(text)} == {"c", "g"}


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("h", "H.", (0.5, 1.0), ("r",))
    for value in (0.1, 0.5, 0.7, 3.0):
        histogram.observe(value, "a")
    (family,) = read_text(render([histogram.family()]))
    assert {(s.name, s.labels.get("le")): s.value for s in family.samples} == {
        ("h_bucket", "0.5"): 2, ("h_bucket", "1.0"): 3, ("h_bucket", "+Inf"): 4, ("h_count", None): 4,
        ("h_sum", None): pytest.approx(4.3),
    }  # fmt: skip
    assert math.isinf(float("+Inf"))


def test_nothing_is_lost_between_threads() -> None:
    counter, histogram = Counter("c_total", "C."), Histogram("h", "H.", (1.0,))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [(counter.add(1), histogram.observe(2.0)) for _ in range(5000)])
    assert [sample.value for sample in counter.family().samples] == [40_000]
    assert histogram.family().samples[-2].value == 40_000


def test_names_without_end_do_not_take_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_MOST_SERIES", 3)
    counter, histogram = Counter("c_total", "C.", ("t",)), Histogram("h", "H.", (1.0,), ("t",))
    for number in range(9):
        counter.add(1, str(number))
        histogram.observe(1.0, str(number))
    counter.add(1, "0")
    assert {dict(s.labels)["t"]: s.value for s in counter.family().samples} == {"0": 2, "1": 1, "2": 1, "(others)": 6}
    assert sum(s.value for s in histogram.family().samples if s.suffix == "_count") == 9
