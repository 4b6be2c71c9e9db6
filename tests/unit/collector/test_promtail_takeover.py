from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.collector.listeners.opening import listening, spool_directory
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.listeners.stdin import Stdin
from atalaia.collector.plan import Decompression, Job, Output, Plan, Target
from atalaia.collector.promtail.takeover import Recorded, enter, enter_cursors, parse, recorded
from atalaia.collector.reading.positions import Positions
from atalaia.environment.errors import InputError

WRITTEN = """\
positions:
  /var/log/syslog: "1234"
  /var/log/unquoted: 7
  cursor-abcdef: "1700000000"
  journal-system: s=0639;i=4a;b=1
"""


def test_a_positions_file_is_read() -> None:
    assert parse(Path("p.yaml"), WRITTEN) == Recorded(
        {"/var/log/syslog": 1234, "/var/log/unquoted": 7}, {"system": "s=0639;i=4a;b=1"}, {"abcdef": "1700000000"}
    )
    assert parse(Path("p.yaml"), "") == parse(Path("p.yaml"), "positions: {}") == Recorded()


@pytest.mark.parametrize(
    "text", ["positions: [", "positions: 5", "files: {}", "positions: {/a: far}", "positions: {/a: -1}", "x"]
)
def test_a_damaged_one_is_refused_unless_it_may_be_passed_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "positions.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="ignore_invalid_yaml") as caught:
        recorded(path)
    assert "positions.yaml cannot be taken over" in str(caught.value)
    assert recorded(path, ignore_invalid=True) == Recorded()
    assert recorded(tmp_path / "none.yaml") == Recorded()


def entered(folder: Path, offsets: dict[str, int], *jobs: Job) -> dict[tuple[str, str], int]:
    """What stands in our positions then, by job and path."""
    place = folder / "own"
    count = enter(Plan(jobs, (Output("http://h"),), place), Recorded(offsets), place)
    kept = Positions(place)
    kept.close()
    assert len(kept.known) == count
    return {(known.job, known.path): known.offset for known in kept.known.values()}


def test_files_of_the_plan_begin_where_promtail_left_them(tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("a.log", "b.log", "short.log", "other.txt", "gone.log", "new.log")}
    for name in ("a.log", "b.log", "short.log", "other.txt", "new.log"):
        (tmp_path / name).write_text("first\nsecond\nthird")
    offsets = {
        names["a.log"]: 13,
        names["b.log"]: 9,
        names["short.log"]: 19,
        names["other.txt"]: 6,
        names["gone.log"]: 6,
        names["new.log"]: 0,
    }
    one, two = Job("one", (Target(f"{tmp_path}/*.log", {}),)), Job("two", (Target(names["a.log"], {}),))
    # Within a line the whole line is read: twice in part is better than not at all.
    assert entered(tmp_path, offsets, one, two) == {
        ("one", names["a.log"]): 13,
        ("two", names["a.log"]): 13,
        ("one", names["b.log"]): 6,
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(lines=st.lists(st.sampled_from([b"", b"a", b"long line", b"\xff"]), min_size=1), data=st.data())
def test_every_offset_gives_the_beginning_of_its_line(tmp_path: Path, lines: list[bytes], data: st.DataObject) -> None:
    content = b"\n".join(lines)
    offset = data.draw(st.integers(1, max(1, len(content))))
    (tmp_path / "own").unlink(missing_ok=True)
    path = tmp_path / "x.log"
    path.write_bytes(content or b"x")
    (at,) = entered(tmp_path, {str(path): offset}, Job("j", (Target(str(path), {}),))).values()
    assert at == (content or b"x")[:offset].rfind(b"\n") + 1


def test_offsets_of_wide_characters_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "wide.log"
    path.write_bytes("one\ntwo\n".encode("utf-16le"))
    assert list(entered(tmp_path, {str(path): 8}, Job("j", (Target(str(path), {}),))).values()) == [8]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".z", zlib.compress)]
)
def test_a_compressed_files_position_counts_its_lines(tmp_path: Path, suffix: str, compress) -> None:
    path = tmp_path / f"a{suffix}"
    text = b"".join(b"line %d\n" % number for number in range(300_000))
    path.write_bytes(compress(text[:1_000_000]) + compress(text[1_000_000:]) if suffix != ".z" else compress(text))
    job = Job("j", (Target(str(path), {}),), decompression=Decompression())
    behind = text.index(b"line 200000\n")
    assert list(entered(tmp_path, {str(path): 200_000}, job).values()) == [behind]
    (tmp_path / "own").unlink()
    assert list(entered(tmp_path, {str(path): 400_000}, job).values()) == [len(text)]
    (tmp_path / "own").unlink()
    path.write_bytes(path.read_bytes()[:-20])
    assert list(entered(tmp_path, {str(path): 3}, job).values()) == [len(b"line 0\n" * 3)]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x\n")
    (tmp_path / "file").write_text("")
    job = Job("j", (Target(f"{tmp_path}/a.log", {}),))
    place = tmp_path / "file" / "own"
    with pytest.raises(InputError, match="cannot be written"):
        enter(Plan((job,), (Output("http://h"),), place), Recorded({f"{tmp_path}/a.log": 2}), place)


def test_journals_and_containers_go_on_where_promtail_stood(tmp_path: Path) -> None:
    place = tmp_path / "own"
    listen = Stdin  # never opened
    jobs = [
        listening(Job(name, ()), lambda spool, meters: listen({}, spool, 0), place)
        for name in ("system", "both journal", "containers")
    ]
    found = Recorded({}, {"system": "s=1", "both": "s=2"}, {"c0ffee": "1700000000", "odd": "x"})
    plan = Plan((*jobs, Job("files", ())), (Output("http://h"),), place)
    assert enter_cursors(plan, found) == 3
    assert enter_cursors(plan, found) == 0
    docker = {"c0ffee/stdout": "1700000000000000000 0", "c0ffee/stderr": "1700000000000000000 0"}
    for name, journal in (("system", {"journal": "s=1"}), ("both journal", {"journal": "s=2"}), ("containers", {})):
        spool = Spool(spool_directory(place, name), name, None)
        assert spool.cursors == docker | journal
        spool.close()
