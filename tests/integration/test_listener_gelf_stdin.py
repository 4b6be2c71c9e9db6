from __future__ import annotations

import gzip
import json
import os
import socket
import zlib
from pathlib import Path

import pytest
from tests.integration.listeners_support import opened, shown, wait_until

from atalaia.collector.listeners.spool import Spool
from atalaia.collector.listeners.stdin import Stdin

MESSAGE = {
    "version": "1.1",
    "host": "web",
    "short_message": "text",
    "timestamp": 1795305600.25,
    "level": 3,
    "_unit": "u",
}


def test_gelf_takes_whole_and_chunked_messages_plain_and_packed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relabel = shown("__gelf_message_host=host", "__gelf_message_level=level", "__gelf_message_unit=unit")
    text = "{listen_address: '127.0.0.1:0', labels: {job: gelf}, use_incoming_timestamp: true}"
    with opened(tmp_path, "gelf", text, relabel) as found:
        plain = json.dumps(MESSAGE).encode()
        long = json.dumps({**MESSAGE, "full_message": os.urandom(3000).hex()}).encode()
        packed = gzip.compress(long)
        chunks = [packed[at : at + 500] for at in range(0, len(packed), 500)]
        datagrams = [b"\x1e\x0f12345678" + bytes([at, len(chunks)]) + chunk for at, chunk in enumerate(chunks)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in [plain, zlib.compress(plain), b"no message", *reversed(datagrams)]:
                sender.sendto(datagram, ("127.0.0.1", found.port))
        lines = found.wait_for(3)
        assert [json.loads(line) for line in lines] == [MESSAGE, MESSAGE, json.loads(long)]
        assert found.labels() == [{"job": "gelf", "host": "web", "level": "error", "unit": "u"}] * 3
        assert found.entries().ts.tolist() == [1795305600250000000] * 3
        assert found.counted("promtail_gelf_target_entries_total") == 3
        assert found.counted("promtail_gelf_target_parsing_errors_total") == 1
    assert "gelf_unread" in caplog.text


def test_standard_input_is_read_to_its_end(tmp_path: Path) -> None:
    read, write = os.pipe()
    spool = Spool(tmp_path, "stdin")
    stdin = Stdin({"job": "stdin"}, spool, read)
    stdin.start()
    os.write(write, b"first\nsec")
    wait_until(lambda: b"first" in next(tmp_path.glob("*.jsonl")).read_bytes())
    assert not stdin.ended.is_set()
    os.write(write, "ond é\n\nlast".encode())
    os.close(write)
    assert stdin.ended.wait(10)
    stdin.stop()
    spool.close()
    os.close(read)
    from atalaia.collector.formats.spool import records

    found = records(next(tmp_path.glob("*.jsonl")).read_bytes(), {})
    assert found.lines.to_pylist() == ["first", "second é", "", "last"]
    assert found.labels == {"job": "stdin"}


def test_an_endless_line_of_standard_input_is_cut(tmp_path: Path) -> None:
    read, write = os.pipe()
    spool = Spool(tmp_path, "stdin")
    stdin = Stdin({"job": "stdin"}, spool, read)
    stdin.start()
    for _ in range(50):
        os.write(write, b"x" * 60_000)
    os.write(write, b"\nnext\n")
    os.close(write)
    assert stdin.ended.wait(10)
    stdin.stop()
    spool.close()
    os.close(read)
    from atalaia.collector.formats.spool import records

    first, second = records(next(tmp_path.glob("*.jsonl")).read_bytes(), {}).lines.to_pylist()
    assert first.startswith("xxx")
    assert len(first) <= 1 << 20
    assert second == "next"
