"""What a text file may be, wherever one is read."""

import bz2
import gzip
import lzma
import os
import tracemalloc
import uuid

import pytest

from keras_luong.paths import path_of
from keras_luong.text import read_lines

TEXT = "a dog\nÄ \u2028 b\u0085\rc\n\nlast"
LINES = ["a dog", "Ä \u2028 b\u0085\rc", "", "last"]


@pytest.fixture(params=["plain", "x.gz", "x.GZ", "-", "ram://plain", "ram://x.gz"])
def written(request, tmp_path, monkeypatch):
    """Puts bytes where they are read from; returns the path."""

    def write(data):
        path = tmp_path / request.param.removeprefix("ram://")
        path.write_bytes(gzip.compress(data) if path.suffix else data)
        if request.param.startswith("ram"):
            remote = path_of(f"ram://{uuid.uuid4().hex}") / path.name
            remote.upload(path)
            return remote
        if request.param != "-":
            return path
        file = path.open("rb")
        request.addfinalizer(file.close)
        monkeypatch.setattr("sys.stdin", file)
        return "-"

    return write


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["without mark", "with mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_lines_of_utf8(written, mark, end):
    path = written((mark + TEXT.replace("\n", end)).encode())
    assert list(read_lines(path)) == LINES


def test_an_empty_file_has_no_lines(written):
    assert list(read_lines(written(b""))) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["a dog\n", "一\n"])
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_utf16_is_named(written, encoding, text, errors):
    with pytest.raises(ValueError, match=r"no UTF-8 text.* UTF-16.*iconv"):
        list(read_lines(written(text.encode(encoding)), errors=errors))


def test_bytes_that_are_not_utf8(written):
    path = written(b"one\na\xffb\n")
    with pytest.raises(ValueError, match="Line 2 of .* is not UTF-8: byte 0xff at position 1"):
        list(read_lines(path))


def test_bytes_that_are_not_utf8_as_replacement_characters(written):
    assert list(read_lines(written(b"one\na\xffb\n"), errors="replace")) == ["one", "a\ufffdb"]


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_what_is_packed_and_not_named_so_is_no_text(tmp_path, pack, name):
    path = tmp_path / "x.txt"
    path.write_bytes(pack(b"a dog\n"))
    with pytest.raises(ValueError, match=rf"x\.txt' is no UTF-8 text. It is .*{name}.*un"):
        list(read_lines(path, errors="replace"))


def test_lines_of_a_pipe_come_before_its_end(monkeypatch):
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb", buffering=0) as other_end:
        monkeypatch.setattr("sys.stdin", pipe)
        lines = read_lines("-")
        for line in (b"one\n", b"two\n"):
            other_end.write(line)
            assert next(lines) == line.decode().strip()


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_the_end_of_a_long_line_is_dropped_and_that_is_said(written, end, caplog):
    """One of exactly so many bytes is whole, with whatever stands before and behind them."""
    text = end.join(["\ufeffabcd", "abcde", "", "x" * 200_000, "abcd", "last"])
    found = list(read_lines(written(text.encode()), most=4))
    assert found == ["abcd", "abcd", "", "xxxx", "abcd", "last"]
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [
        *("Line 2", "Line 4")
    ]
    assert caplog.messages[0].endswith("is cut: it has more than 4 bytes.")


def test_a_long_line_takes_no_more_memory_than_is_read_of_it(written):
    path = written(b"x" * 5_000_000 + b"\nlast\n")
    tracemalloc.start()
    assert [len(line) for line in read_lines(path, most=1000)] == [1000, 4]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
