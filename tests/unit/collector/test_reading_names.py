from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.collector.plan import Job, Target
from atalaia.collector.reading import names


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("a.log.1", "a.log"),
        ("a.log.2.gz", "a.log"),
        ("a.log-20240101", "a.log"),
        ("a.log-20240101.xz", "a.log"),
        ("a-20240101.log", "a.log"),
        ("a-20240101.log.zst", "a.log"),
        ("a.1.log", "a.log"),
        ("0.log.20240101-120000.gz", "0.log"),
        ("a.log.3", "a.log"),
        ("a.log1", "a.log"),
        ("messages.old", "messages"),
    ],
)
def test_what_a_rotation_makes_of_a_name_leads_back_to_it(name: str, origin: str) -> None:
    assert origin in names.origins(name)


@pytest.mark.parametrize(
    ("name", "other"),
    [("b.log.1", "a.log"), ("app.log", "web.log"), ("a.log", "a.log.1"), ("10.log", "1.log"), ("a-10.log", "a-1.log")],
)
def test_other_names_do_not(name: str, other: str) -> None:
    assert other not in names.origins(name)


def test_the_name_before_all_rotations() -> None:
    assert [names.base(n) for n in ("a.log.2.gz", "a.log-20240101", "a.log", "a.log.1.2")] == ["a.log"] * 4


def test_the_folders_of_a_glob(tmp_path: Path) -> None:
    for folder in ("pods/one/app", "pods/two/app", "pods/two/db", "other"):
        (tmp_path / folder).mkdir(parents=True)

    def found(pattern: str) -> set[str]:
        folders = names.folders(Target(f"{tmp_path}/{pattern}", {}))
        return {str(Path(f).relative_to(tmp_path)) for f in folders}

    assert found("pods/*/app/*.log") == {"pods", "pods/one", "pods/two", "pods/one/app", "pods/two/app"}
    assert found("pods/**/*.log") >= {"pods", "pods/one", "pods/one/app", "pods/two/db"}
    assert found("other/x.log") == {"other"}
    assert found("missing/deep/*.log") == {"."}
    assert found("{other,pods/one/app}/*.log") == {"other", "pods/one/app"}


def test_a_path_is_matched_once_a_job() -> None:
    first, second = Target("/x/*.log", {"n": "1"}), Target("/x/a*", {"n": "2"}, exclude="/x/a.tmp")
    one, two = Job("one", (first, second)), Job("two", (second,))
    matcher = names.matcher([one, two])
    assert matcher.targets("/x/a.log") == [(one, first), (two, second)]
    assert matcher.targets("/x/a.txt") == [(one, second), (two, second)]
    assert matcher.targets("/x/a.tmp") == matcher.targets("/y/a.log") == []
    assert names.matcher([]).targets("/x/a.log") == []
