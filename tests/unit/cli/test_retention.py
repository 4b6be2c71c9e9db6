from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.cli.retention import check_selector, parse_rule, retention
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import parse
from atalaia.environment.settings import LogsSettings, RetentionRule

DAY = 86_400 * 10**9


def settings(text: str) -> LogsSettings:
    return parse(text, Path("/x/atalaia.toml"), check_selector)[0].logs


def test_the_settings_arrive_in_their_units_and_rules_hold_for_their_streams() -> None:
    logs = settings(
        """
            [logs]
            retention_age = "30d"
            [[logs.retention]]
            tenant = "dev"
            selector = '{level=~"debug|trace", job!="audit"}'
            age = "1d"
            [[logs.retention]]
            tenant = "dev"
            size = "1GiB"
            [[logs.retention]]
            selector = '{job="audit"}'
            age = "1y"
            size = "5MB"
        """
    )
    found = retention(logs.retention_age, logs.retention_size, logs.retention)
    assert (found.age, found.size) == (30 * DAY, 10 << 30)
    assert [(rule.age, rule.size) for rule in found.rules] == [(DAY, None), (None, 1 << 30), (365 * DAY, 5_000_000)]
    first, second, third = (rule.holds for rule in found.rules)
    debug, audit = {"level": "debug"}, {"level": "debug", "job": "audit"}
    assert [first("dev", debug), first("dev", audit), first("fake", debug)] == [True, False, False]
    assert [second("dev", {}), second("fake", debug)] == [True, False]
    assert [third("dev", audit), third("fake", audit), third("fake", debug)] == [True, True, False]


def test_every_selector_that_is_none_is_told_with_its_line_and_all_else_that_is_wrong() -> None:
    text = """\
[[logs.retention]]
selector = '{job="a"}'
age = "1d"
[[logs.retention]]
age = "1d"
selector = 'job="a"'
[[logs.retention]]
selector = '{job="a"} |= "x"'
size = "1GB"
[logs]
port = 0
"""
    with pytest.raises(ConfigurationError) as caught:
        settings(text)
    assert [problem.line for problem in caught.value.problems] == [6, 8, 11]
    first, second, _ = caught.value.problems
    assert first.message.startswith("logs.retention.selector = 'job=\"a\"': ")
    assert second.message.endswith(": more than a selector")
    assert "give a selector of streams" in first.remedy


def test_a_rule_in_one_line() -> None:
    assert parse_rule('age=7d {job="a", b="c d=e"}') == RetentionRule(age="7d", selector='{job="a", b="c d=e"}')
    assert parse_rule(" size=1GiB tenant=x age=1h") == RetentionRule(tenant="x", age="1h", size="1GiB")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither an age nor a size"),
        ('{job="a"}', "neither an age nor a size"),
        ("age=soon", "'soon' is not a duration"),
        ("7d", "is not one age=, size=, tenant= and selector"),
        ("selector=7d", "is not one age=, size=, tenant= and selector"),
        ("age=7d age=8d", "is not one age=, size=, tenant= and selector"),
    ],
)
def test_a_line_that_is_no_rule_is_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_rule(text)


def test_the_selector_of_a_line_is_looked_at_too() -> None:
    with pytest.raises(InputError, match="more than a selector"):
        retention(None, None, [parse_rule('age=7d {job="a"} | json')])
    with pytest.raises(InputError, match="'x' is not a duration"):
        retention("x", None)
