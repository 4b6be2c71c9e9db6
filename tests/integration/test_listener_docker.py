from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.docker_server import Container, DockerServer
from tests.integration.listeners_support import Opened, opened, opener_of, shown, wait_until

RELABEL = shown(
    "__meta_docker_container_name=name",
    "__meta_docker_container_log_stream=stream",
    "__meta_docker_container_label_app=app",
    "__meta_docker_network_name=network",
)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerServer]:
    server = DockerServer(tmp_path / "docker.sock")
    server.start()
    yield server
    server.stop()


def text_of(server: DockerServer, more: str = "") -> str:
    return f"[{{host: 'unix://{server.path}', refresh_interval: 100ms{more}}}]"


def test_containers_are_found_and_their_streams_labelled(docker: DockerServer, tmp_path: Path) -> None:
    web = docker.add(Container("c1", "web", labels={"app": "shop"}))
    web.write("before the collector")
    with opened(tmp_path / "spool", "docker_sd_configs", text_of(docker), RELABEL) as found:
        web.write("out", stream=1)
        web.write("err", stream=2)
        found.wait_for(3)
        later = docker.add(Container("c2", "later", tty=True))
        later.write("x" * 40_000)
        later.write("on a terminal", moment := time.time_ns())
        lines = found.wait_for(5)
        assert lines == ["before the collector", "out", "err", "x" * 40_000, "on a terminal"]
        labels = found.labels()
        assert labels[2] == {"name": "/web", "stream": "stderr", "app": "shop", "network": "bridge"}
        assert labels[4] == {"name": "/later", "stream": "stdout", "network": "bridge"}
        assert found.entries().ts.tolist()[4] == moment
        assert {one["__meta_docker_container_name"] for one in found.listener.targets()} == {"/web", "/later"}
        assert found.counted("promtail_docker_target_entries_total") == 5


def test_each_line_comes_once_over_restarts_of_everything(docker: DockerServer, tmp_path: Path) -> None:
    web = docker.add(Container("c1", "web"))
    expected: list[str] = []

    def write(count: int, moment: int | None = None) -> None:
        for _ in range(count):
            web.write(f"line {len(expected)}", moment, stream=1 + len(expected) % 2)
            expected.append(f"line {len(expected)}")

    spool = tmp_path / "spool"
    same = time.time_ns()
    write(7, same)  # lines of one time
    with opened(spool, "docker_sd_configs", text_of(docker)) as found:
        found.wait_for(7)
        write(3, same)
        found.wait_for(10)
        docker.stop()  # the daemon restarts
        write(10)
        docker.start()
        found.wait_for(20)
        web.run(False)  # the container restarts
        write(5)
        wait_until(lambda: not found.listener.targets() or len(found.lines()) == 25)
        web.run(True)
        write(5)
        found.wait_for(30)
    write(10)  # while the collector is away
    web.run(False)
    with opened(spool, "docker_sd_configs", text_of(docker)) as found:
        assert found.wait_for(40) == expected
        looks = len(docker.asked)
        wait_until(lambda: len(docker.asked) > looks + 4)
        assert found.lines() == expected


def test_a_daemon_that_is_away_is_told_once_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = DockerServer(tmp_path / "docker.sock")
    server.add(Container("c1", "web")).write("hello")
    with opened(tmp_path / "spool", "docker_sd_configs", text_of(server)) as found:
        wait_until(lambda: "docker_unreachable" in caplog.text)
        server.start()
        found.wait_for(1)
        server.stop()
    assert caplog.text.count("event=docker_unreachable host") <= 2


def test_filters_are_asked_and_unwanted_containers_not_read(docker: DockerServer, tmp_path: Path) -> None:
    for name in ("web", "webhook", "database"):
        docker.add(Container(f"id-{name}", name)).write(f"of {name}")
    more = ", filters: [{name: name, values: [web]}]"

    def relabel(labels: object) -> object:
        assert isinstance(labels, dict)
        return None if labels["__meta_docker_container_name"] == "/webhook" else {**labels, "app": "a"}

    with opened(tmp_path / "spool", "docker_sd_configs", text_of(docker, more), relabel) as found:  # type: ignore[arg-type]
        assert found.wait_for(1) == ["of web"]
        looks = len(docker.asked)
        wait_until(lambda: len(docker.asked) > looks + 4)
        assert found.lines() == ["of web"]
        assert "/containers/id-webhook/logs" not in [path for path, _ in docker.asked]


def test_the_place_of_a_removed_container_is_forgotten(docker: DockerServer, tmp_path: Path) -> None:
    docker.add(Container("c1", "web")).write("hello")
    with opened(tmp_path / "spool", "docker_sd_configs", text_of(docker)) as found:
        found.wait_for(1)
        wait_until(lambda: list(found.spool.cursors) == ["c1/stdout"])
        docker.containers.pop("c1").run(False)
        wait_until(lambda: not found.spool.cursors)


def test_what_cannot_be_used_is_refused_with_its_line() -> None:
    _, reader = opener_of(
        "docker_sd_configs",
        "- host: ssh://nowhere\n- host: unix:///var/run/docker.sock\n  tls_config: {}\n  filters: [{name: x}]\n",
    )
    assert [problem.line for problem in reader.problems] == [1, 3, 4]
    found, reader = opener_of("docker_sd_configs", "- host: tcp://127.0.0.1:2375\n")
    assert found is not None
    assert not reader.problems


def test_stop_does_not_wait_for_a_silent_container(docker: DockerServer, tmp_path: Path) -> None:
    docker.add(Container("c1", "web")).write("hello")
    found = Opened(tmp_path / "spool", "docker_sd_configs", text_of(docker))
    found.wait_for(1)
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 3
