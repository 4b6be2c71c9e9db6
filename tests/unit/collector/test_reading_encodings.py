from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.reading.encodings import encoding

SAMPLES = {
    "utf-16le": "héllo 漢字",
    "UTF-16BE": "Ċ਀ऊ",  # their bytes hold 0x0A at odd places
    "iso-8859-1": "café",
    "windows-1252": "“café” €",
    "Shift_JIS": "表示ソ",  # their second bytes are those of ASCII
    "gbk": "漢字",
    "euc-kr": "한국어",
    "koi8-r": "журнал",
    "windows-1251": "журнал",
    "big5": "功能",
    "utf-32le": "😀",
}


@pytest.mark.parametrize(("name", "text"), SAMPLES.items())
def test_lines_are_found_in_their_own_bytes_and_become_utf8(name: str, text: str) -> None:
    found = encoding(name)
    assert found is not None
    lines = [text, "", "plain", text * 3]
    pieces = [f"{line}\n".encode(found.codec) for line in lines]
    data = b"".join(pieces)
    assert found.ends(data).tolist() == np.cumsum([len(piece) for piece in pieces]).tolist()
    assert found.decoded(data, first=False).decode() == "".join(f"{line}\n" for line in lines)
    # The last piece of a block is seldom whole.
    assert found.ends(data[:-1]).tolist() == found.ends(data).tolist()[:-1]


@pytest.mark.parametrize("name", ["utf-8", "UTF8", "us-ascii"])
def test_utf8_needs_no_work(name: str) -> None:
    assert encoding(name) is None


@pytest.mark.parametrize("name", ["klingon", "rot13", "base64", "ibm037", "", "utf-8-sig\n x"])
def test_what_is_no_encoding_of_lines_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not an encoding|cannot be told apart"):
        encoding(name)


@pytest.mark.parametrize(
    ("head", "codec"), [(b"\xff\xfea\0", "utf-16-le"), (b"\xfe\xff\0a", "utf-16-be"), (b"\0a", "utf-16-be")]
)
def test_a_byte_order_mark_decides_what_utf16_means(head: bytes, codec: str) -> None:
    found = encoding("utf-16")
    assert found is not None
    assert found.of_file(head).codec == codec
    assert found.of_file(head).decoded(head + found.of_file(head).newline, first=True) == b"a\n"
    named = encoding("utf-16le")
    assert named is not None
    assert named.of_file(b"\xfe\xff").codec == "utf-16-le"


@given(
    st.sampled_from(["utf-16le", "shift_jis", "gbk", "gb18030", "euc-kr", "big5", "iso-2022-jp"]),
    st.binary(max_size=200),
)
def test_there_are_as_many_lines_as_line_ends_whatever_the_bytes(name: str, data: bytes) -> None:
    found = encoding(name)
    assert found is not None
    ends = found.ends(data)
    whole = data[: int(ends[-1])] if len(ends) else b""
    text = found.decoded(whole, first=False)
    text.decode()
    assert text.count(b"\n") == len(ends)
    assert not text or text.endswith(b"\n")
