"""Every command in both READMEs is run, in a copy of the project, as a newcomer would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"```sh( foreground)?\n(.*?)```", re.S)


@pytest.fixture
def copy(reachable: Path) -> Iterator[Path]:
    """The project as it would be cloned. Its .venv is the one that runs this test: nothing is installed again."""
    folder = reachable / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    os.utime(Path(sys.prefix) / ".ready")
    yield folder
    subprocess.run([sys.executable, "-m", "atalaia", "down"], cwd=folder, check=False, capture_output=True, timeout=120)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _with_free_ports(text: str, folder: Path) -> str:
    """The README's ports may be taken on this machine: 3199 for a free one, 5432 for the one that was chosen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    return text.replace("3199", str(free))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_every_command(name: str, copy: Path) -> None:
    text = _with_free_ports((copy / name).read_text(), copy)
    blocks = _BLOCK.findall(text)
    assert len(blocks) > 10
    background: list[subprocess.Popen[bytes]] = []
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "PYTEST"))}
    ran = 0
    try:
        for foreground, body in blocks:
            if (copy / ".atalaia/state.json").exists():
                port = re.search(r'"postgres_a": (\d+)', (copy / ".atalaia/state.json").read_text())
                assert port
                body = body.replace("5432", port[1])
            script = f"set -eu\n. .venv/bin/activate\n{body}"
            if foreground:
                background.append(
                    subprocess.Popen(
                        ["bash", "-c", f". .venv/bin/activate; exec {body.strip()}"], cwd=copy, env=variables
                    )
                )
                listen = re.search(r"--listen 127.0.0.1:(\d+)", body)
                deadline = time.monotonic() + 30
                while listen and not _listening(int(listen[1])):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                ran += 1
                continue
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=copy,
                env=variables,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            ran += len([line for line in body.splitlines() if line.startswith(("atalaia", "make", "curl"))])
        assert (copy / "ENVIRONMENT.md").read_text().startswith("# ")
        assert "postgres_a" in (copy / "AMBIENTE.md").read_text()
    finally:
        for process in background:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    print(f"{ran} commands of {name}")


def test_make_targets_in_the_readmes_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("README.md", "README.pt-BR.md"):
        for target in re.findall(r"`make (\w+)`", (ROOT / name).read_text()):
            assert re.search(rf"^{target}:", makefile, re.M), target
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pytest tests" in done.stdout
