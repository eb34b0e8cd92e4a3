import gzip

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.text import (
    EncodedPairs,
    PairFilter,
    SubwordTokenizer,
    encode_pairs,
    pairs,
    read_pairs,
)
from tests.labelled import Labelled


def write(path, data):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- reading


@pytest.mark.parametrize("names", [("a.de", "a.en"), ("a.de.gz", "a.en"), ("a.de.gz", "a.en.gz")])
def test_reads_plain_and_gzipped_files(tmp_path, names):
    source = write(tmp_path / names[0], "läuft\nschläft\n".encode())
    target = write(tmp_path / names[1], b"runs\nsleeps\n")
    expected = [("läuft", "runs"), ("schläft", "sleeps")]
    assert read_pairs(source, str(target)) == expected


@pytest.mark.parametrize(
    "data, lines",
    [
        ("a\nb", ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\ufeffa\nb\n", ["a", "b"]),
        (" a \n\tb\t\n", [" a ", "\tb\t"]),
        ("a\u2028a\u0085a\x0ca\x1ea\ra\nb", ["a\u2028a\u0085a\x0ca\x1ea\ra", "b"]),
        ("a\n\ufeffb\n", ["a", "\ufeffb"]),
        ("\n\n", ["", ""]),
        ("a\n\n", ["a", ""]),
    ],
)
def test_what_a_line_is(tmp_path, data, lines):
    source = write(tmp_path / "source", data.encode())
    target = write(tmp_path / "target", b"x\ny\n")
    assert read_pairs(source, target) == list(zip(lines, ["x", "y"], strict=True))


def test_unequal_line_counts(tmp_path):
    source = write(tmp_path / "a.de", b"1\n2\n3\n")
    target = write(tmp_path / "a.en", b"1\n2\n")
    with pytest.raises(ValueError, match=r"a\.de' with 3 and .*a\.en' with 2"):
        read_pairs(source, target)


def test_one_of_two_files_can_be_standard_input(tmp_path, monkeypatch):
    source = write(tmp_path / "a.de.gz", b"1\n2\n")
    with write(tmp_path / "piped", b"one\ntwo\n").open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert read_pairs(source, "-") == [("1", "one"), ("2", "two")]
    with pytest.raises(ValueError, match="Only one .* standard input"):
        read_pairs("-", "-")


def test_a_missing_file(tmp_path):
    there = write(tmp_path / "a.de", b"1\n")
    for paths in ((there, tmp_path / "b.en"), (tmp_path / "b.en", there)):
        with pytest.raises(FileNotFoundError, match=r"b\.en"):
            read_pairs(*paths)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["b.en", "b.en.gz"])
def test_an_empty_file(tmp_path, name, data):
    source = write(tmp_path / "a.de", b"1\n")
    with pytest.raises(ValueError, match=rf"{name}' is empty"):
        read_pairs(source, write(tmp_path / name, data))


@pytest.mark.parametrize("name", ["b.en", "b.en.gz"])
def test_bytes_that_are_not_utf8(tmp_path, name):
    source = write(tmp_path / "a.de", b"1\n2\n3\n")
    target = write(tmp_path / name, "ä\nlä".encode() + b"\xffx\nz\n")
    with pytest.raises(ValueError, match=rf"Line 2 of .*{name}' is not UTF-8: byte 0xff at .* 3"):
        read_pairs(source, target)


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"1\n" * 99, mtime=0)[:-9], b"\x1f\x8b\x08"]
)
def test_a_broken_gzip_file(tmp_path, data):
    source = write(tmp_path / "a.de", b"1\n")
    target = tmp_path / "b.gz"
    target.write_bytes(data)
    with pytest.raises(ValueError, match=r"b\.gz' is no complete gzip file"):
        read_pairs(source, target)


# --- encoding


@pytest.fixture(scope="module")
def letters():
    """One id a letter, plus one for the space before a word."""
    return SubwordTokenizer.train(["abcdef"], 11, model_type="char", normalization="identity")


def test_encodes_with_the_tokenizer_of_each_side(letters):
    other = SubwordTokenizer.train(["fed"], 8, model_type="char", normalization="identity")
    encoded = encode_pairs([("ab", "fed"), ("c", "ed")], letters, other)
    assert isinstance(encoded, EncodedPairs)
    assert len(encoded) == 2
    assert encoded.source.to_list() == letters.tokenize(["ab", "c"]).to_list()
    assert encoded.target.to_list() == other.tokenize(["fed", "ed"]).to_list()
    assert encoded.source.dtype == encoded.target.dtype == tf.int32
    assert encoded.dropped == {"empty": 0, "too_long": 0}


def test_empty_and_too_long_pairs_are_dropped_and_counted(letters):
    # A word of n letters has n + 1 tokens.
    given = [
        ("abc", "abc"),
        ("", "abc"),
        ("abc", "  "),
        ("", ""),
        ("abcd", "a"),
        ("a", "abcd"),
        ("", "abcd"),
        ("a", "f"),
    ]
    encoded = encode_pairs(given, letters, letters, max_length=4)
    assert letters.detokenize(encoded.source).numpy().tolist() == [b"abc", b"a"]
    assert letters.detokenize(encoded.target).numpy().tolist() == [b"abc", b"f"]
    assert encoded.dropped == {"empty": 4, "too_long": 2}


def test_a_text_that_is_far_too_long_is_not_tokenized(letters, monkeypatch):
    """Nor is one of spaces, of 256 bytes for each token that is allowed and one."""
    tokenize, seen = SubwordTokenizer.tokenize, []
    monkeypatch.setattr(
        SubwordTokenizer,
        "tokenize",
        lambda self, texts: seen.extend(texts.numpy()) or tokenize(self, texts),
    )
    given = [("a", "b"), (" " * 511 + "a", "b"), (" " * 512 + "a", "b"), ("a", "b" * 10_000)]
    encoded = encode_pairs(given, letters, letters, max_length=2)
    assert (len(encoded), encoded.dropped) == (2, {"empty": 0, "too_long": 2})
    assert max(map(len, seen)) == 512


def test_many_pairs_go_through_in_chunks(letters, monkeypatch):
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("abcdef "), 6)) for _ in range(50)]
    given = [
        ("a" + source, "b" + target) for source, target in zip(texts, texts[::-1], strict=True)
    ]
    whole = encode_pairs(iter(given), letters, letters)
    monkeypatch.setattr(pairs, "_CHUNK", 7)
    chunked = encode_pairs(given, letters, letters)
    assert chunked.source.to_list() == whole.source.to_list()
    assert chunked.target.to_list() == whole.target.to_list()
    assert whole.source.to_list() == letters.tokenize([source for source, _ in given]).to_list()


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "of 0: 0 have an empty side, 0 have"),
        ([("", "a"), ("abcdef", "a")], "of 2: 1 have an empty side, 1 have .* more than 4 tokens"),
    ],
)
def test_nothing_left(letters, given, message):
    with pytest.raises(ValueError, match=message):
        encode_pairs(given, letters, letters, max_length=4)


@pytest.mark.parametrize(
    "wrong", ["ab", ("a",), ("a", "b", "c"), ("a", b"b"), ("a", None), {"a", "b"}, None]
)
def test_what_is_no_pair(letters, wrong):
    with pytest.raises(TypeError, match="tuple of two str.* at 1"):
        encode_pairs([("a", "b"), wrong], letters, letters)


@pytest.mark.parametrize("make", [iter, Labelled, np.array])
def test_pairs_may_be_any_iterable(letters, make):
    given = [("ab", "a"), ("b", "ba"), ("aab", "b")]
    plain = encode_pairs(given, letters, letters)
    found = encode_pairs(make(given), letters, letters, max_length=np.int64(9))
    assert found.source.to_list() == plain.source.to_list()
    assert found.target.to_list() == plain.target.to_list()
    assert list(PairFilter(np.int64(9), np.float32(3))(make(given))) == given


def test_text_that_has_no_utf8(letters):
    with pytest.raises(ValueError, match="pair at 1 cannot be written as UTF-8"):
        encode_pairs([("a", "b"), ("a", "\ud800")], letters, letters)


@pytest.mark.parametrize("max_length", [0, -1, 2.5, None])
def test_wrong_max_length(letters, max_length):
    with pytest.raises(ValueError, match="max_length"):
        encode_pairs([("a", "b")], letters, letters, max_length=max_length)
