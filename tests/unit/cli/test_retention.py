from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.cli.retention import parse_rule, retention, retention_of
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import Environment, parse
from atalaia.environment.settings import RetentionRule
from atalaia.environment.state import State

DAY = 86_400 * 10**9


def environment(text: str) -> Environment:
    file = Path("/x/atalaia.toml")
    settings, lines = parse(text, file)
    return Environment(file, settings, State(file.parent / ".atalaia"), lines)


def test_the_settings_arrive_in_their_units_and_rules_hold_for_their_streams() -> None:
    found = retention_of(
        environment(
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
    )
    assert (found.age, found.size) == (30 * DAY, 10 << 30)
    assert [(rule.age, rule.size) for rule in found.rules] == [(DAY, None), (None, 1 << 30), (365 * DAY, 5_000_000)]
    first, second, third = (rule.holds for rule in found.rules)
    debug, audit = {"level": "debug"}, {"level": "debug", "job": "audit"}
    assert [first("dev", debug), first("dev", audit), first("fake", debug)] == [True, False, False]
    assert [second("dev", {}), second("fake", debug)] == [True, False]
    assert [third("dev", audit), third("fake", audit), third("fake", debug)] == [True, True, False]


def test_every_selector_that_is_none_is_told_with_its_line() -> None:
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
"""
    with pytest.raises(ConfigurationError) as caught:
        retention_of(environment(text))
    assert [problem.line for problem in caught.value.problems] == [6, 8]
    first, second = caught.value.problems
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
