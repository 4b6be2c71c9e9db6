"""How far behind a file is, and since when; the small file that `atalaia status` reads."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.lagging import FileLag, Lagging, Standing
from atalaia.collector.statefile import StateFile, read, summed


def file(offset: int, number: int = 1) -> Standing:
    return Standing(f"id{number}", f"/x/{number}.log", "job", offset, (1, number))


def test_the_oldest_unacknowledged_byte_counts() -> None:
    lagging = Lagging()
    sizes = {1: 0}

    def look(at: float, offset: int) -> FileLag:
        (found,) = lagging.look([file(offset)], lambda: at, lambda one: sizes[1])
        return found

    assert (look(0, 0).behind, look(0, 0).seconds) == (0, 0)
    sizes[1] = 100
    assert (look(10, 0).behind, look(12, 0).seconds) == (100, 2)
    sizes[1] = 150
    # Acknowledged up to the middle of what the look at 10 s saw: the rest of it waits since then.
    assert (look(13, 99).behind, look(13, 99).seconds) == (51, 3)
    # All of that is acknowledged: what the look at 13 s saw waits since then.
    assert look(15, 100).seconds == 2
    assert (look(16, 150).behind, look(16, 150).seconds) == (0, 0)
    sizes[1] = 151
    assert look(20, 150).seconds == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=120))
def test_the_time_is_never_too_short_nor_longer_than_the_lag(steps: list[tuple[int, int]]) -> None:
    """Against all looks kept: thinning them out may only make the time longer, and never begin before the lag did."""
    lagging, size, offset, history, began = Lagging(), 0, 0, [], None
    for at, (grown, taken) in enumerate(steps):
        size += grown
        offset = min(size, offset + taken)
        history.append((at, size))
        (found,) = lagging.look([file(offset)], lambda at=at: at, lambda one, size=size: size)  # type: ignore[misc]
        began = None if offset == size else at if began is None else began
        exact = next((at - then for then, seen in history if seen > offset), 0)
        assert found.behind == size - offset
        assert found.seconds >= 0
        if found.behind:
            assert began is not None
            assert exact <= found.seconds + 1e-9 or len(history) > 32
            assert found.seconds <= at - began


def test_files_that_are_gone_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("12345")
    status = path.stat()
    here = Standing("a", str(path), "job", 2, (status.st_dev, status.st_ino))
    other = Standing("b", str(path), "job", 2, (0, 0))
    gone = Standing("c", str(tmp_path / "y"), "job", 2, (0, 0))
    assert [lag.behind for lag in Lagging().look([here, other, gone])] == [3]


def test_the_state_file_is_written_when_it_changes_and_read_back(tmp_path: Path) -> None:
    lags = [FileLag(f"/x/{n}", "job", 100, n % 40, float(n)) for n in range(30)]
    one = summed("loki", lags)
    assert (one.files, one.files_behind, one.bytes_behind, one.seconds_behind) == (30, 29, sum(range(30)), 29.0)
    assert [lag.behind for lag in one.worst] == list(range(29, 19, -1))
    place = tmp_path / "status.json"
    state = StateFile(place)
    state.write([one])
    found = read(place)
    assert found is not None
    assert found.outputs == (one,)
    place.unlink()
    state.write([one])
    assert not place.exists()
    state.write([summed("loki", lags[:1])])
    assert place.exists()
    state.remove()
    assert read(place) is None


def test_a_damaged_state_file_tells_nothing(tmp_path: Path) -> None:
    place = tmp_path / "status.json"
    for text in ("", "{", "[]", '{"version": 2}', '{"version": 1, "pid": 1, "written": 2, "outputs": [3]}'):
        place.write_text(text)
        assert read(place) is None
    StateFile(tmp_path / "no" / "folder").write([])
