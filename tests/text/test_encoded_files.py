import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_luong import MaskedCrossentropy, luong_seq2seq
from keras_luong.stored_parts import write_sums
from keras_luong.text import (
    PairFilter,
    SubwordTokenizer,
    TrainingBatches,
    encode_files,
    encode_pairs,
    encoded_files,
    evaluation_batches,
    stream_pairs,
)
from tests.hostile_files import DEEP, edited, flipped, linked, npy, truncated

SOURCE = ["one two three", "two", "", "three three one", "two two", "one"]
TARGET = ["eins zwei drei", "zwei", "nichts", "drei drei eins", "zwei zwei", " "]


@pytest.fixture(scope="module")
def tokenizer():
    return SubwordTokenizer.train([*SOURCE, *TARGET], 20)


@pytest.fixture
def paths(tmp_path):
    source, target = tmp_path / "a.en.gz", tmp_path / "a.de"
    source.write_bytes(gzip.compress("\n".join(SOURCE).encode()))
    target.write_text("\n".join(TARGET) + "\n")
    return source, target


def rows(side):
    return [side[row].tolist() for row in range(len(side))]


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_ids_are_those_of_pairs_in_memory(tokenizer, paths, tmp_path, chunk, monkeypatch):
    monkeypatch.setattr(encoded_files, "_CHUNK", chunk)
    found = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids")
    expected = encode_pairs(list(zip(SOURCE, TARGET, strict=True)), tokenizer, tokenizer)
    assert rows(found.source) == expected.source.to_list()
    assert rows(found.target) == expected.target.to_list()
    assert found.source.row_lengths().tolist() == expected.source.row_lengths().numpy().tolist()
    assert found.dropped == expected.dropped == {"empty": 2, "too_long": 0}
    assert len(found) == 4


def test_the_second_time_nothing_is_tokenized(tokenizer, paths, tmp_path, monkeypatch):
    first = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", max_length=3)
    monkeypatch.setattr(encoded_files, "encode_some", None)
    again = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", max_length=3)
    assert rows(again.source) == rows(first.source)
    assert again.dropped == first.dropped
    assert again.dropped["too_long"] > 0


def test_ids_of_something_else_are_refused_and_stay(tokenizer, paths, tmp_path):
    folder = tmp_path / "ids"
    encode_files(*paths, tokenizer, tokenizer, folder)
    other = SubwordTokenizer.train([*SOURCE, *TARGET], 19)
    with pytest.raises(ValueError, match="ids' were made of something else: max_length. Remove"):
        encode_files(*paths, tokenizer, tokenizer, folder, max_length=7)
    with pytest.raises(ValueError, match="else: tokenizers"):
        encode_files(*paths, tokenizer, other, folder)
    with pytest.raises(ValueError, match="else: pair_filter"):
        encode_files(*paths, tokenizer, tokenizer, folder, pair_filter=PairFilter())
    os.utime(paths[1], ns=(1, 1))
    with pytest.raises(ValueError, match="else: files"):
        encode_files(*paths, tokenizer, tokenizer, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="files, tokenizers, max_length, pair_filter"):
        encode_files(*paths, tokenizer, tokenizer, tmp_path / "empty")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.de", "a.en.gz", "empty", "ids"]


def test_a_filter_is_asked_once_and_may_be_used_again(tokenizer, paths, tmp_path):
    only = PairFilter(max_words=2)
    first = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", pair_filter=only)
    assert (len(first), only.kept, only.dropped["too_long"]) == (2, 2, 2)
    assert len(encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", pair_filter=only)) == 2
    assert only.kept == 2


def test_a_function_is_the_same_filter_in_every_process(tokenizer, paths, tmp_path):
    def no_twos():  # as another process would make it: the same name at another address
        def without_twos(pairs):
            return (pair for pair in pairs if "two two" not in pair[0])

        return without_twos

    options = {"pair_filter": no_twos()}
    assert len(encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", **options)) == 3
    options = {"pair_filter": no_twos()}
    assert len(encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", **options)) == 3


def test_what_a_filter_dropped_is_there_the_next_time(tokenizer, paths, tmp_path):
    only = PairFilter(max_words=2)
    list(only([("", "")]))  # used before
    for _ in range(2):
        found = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", pair_filter=only)
        assert found.dropped == {
            **{"empty": 0, "too_long": 0},
            **{"filter.empty": 2, "filter.too_long": 2},
            **{"filter.ratio": 0, "filter.copy": 0, "filter.duplicate": 0},
        }


def test_of_two_processes_the_first_to_be_done_writes(tokenizer, paths, tmp_path):
    folder, done = tmp_path / "ids", []

    def slow(pairs):
        if not done:
            done.append(True)
            encode_files(*paths, tokenizer, tokenizer, folder, pair_filter=slow)
        return pairs

    assert len(encode_files(*paths, tokenizer, tokenizer, folder, pair_filter=slow)) == 4
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.de", "a.en.gz", "ids"]


def test_a_file_where_the_folder_should_stand_is_named(tokenizer, paths):
    with pytest.raises(FileExistsError, match="a.de"):
        encode_files(*paths, tokenizer, tokenizer, paths[1] / "ids")


def test_files_and_ids_may_stand_where_a_scheme_leads(tokenizer, paths, tmp_path):
    root = f"ram://{uuid.uuid4().hex}"
    remote = [f"{root}/{path.name}" for path in paths]
    for path, name in zip(paths, remote, strict=True):
        with tf.io.gfile.GFile(name, "wb") as file:
            file.write(path.read_bytes())
    here = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", max_length=np.int64(9))
    for _ in range(2):  # written, and read
        there = encode_files(*remote, tokenizer, tokenizer, f"{root}/ids", max_length=9)
        assert rows(there.source) == rows(here.source) and there.files == here.files
    with pytest.raises(ValueError, match="no file system for nothing://"):
        encode_files(*paths, tokenizer, tokenizer, "nothing://b/ids")
    tf.io.gfile.remove(f"{root}/ids/facts.json")
    with pytest.raises(ValueError, match="were made of something else"):
        encode_files(*remote, tokenizer, tokenizer, f"{root}/ids", max_length=9)


def test_nothing_is_left_of_what_fails(tokenizer, paths, tmp_path):
    with pytest.raises(ValueError, match="No pair remains"):
        encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", pair_filter=lambda _: iter(()))
    paths[1].write_text("\n".join(TARGET[:-1]))
    with pytest.raises(ValueError, match="with 6 and .* with 5"):
        encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.de", "a.en.gz"]


def test_memory_holds_no_ids(tokenizer, paths, tmp_path):
    found = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids")
    assert isinstance(found.source[0], np.memmap)
    source, target = ("\n".join(side).encode() + b"\n" for side in (SOURCE, TARGET))
    assert found.files == {
        "pairs": 6,
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "target_sha256": hashlib.sha256(target).hexdigest(),
    }


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what is of no file")
def test_memory_grows_by_less_than_a_sixth_of_the_files(tmp_path):
    """Encoding, and reading an epoch of batches: 320 bytes of text a pair, and 640 of ids."""
    counts, peaks = (20_000, 200_000), []
    for count in counts:
        (folder := tmp_path / str(count)).mkdir()
        arguments = [sys.executable, Path(__file__).with_name("memory.py"), folder, str(count)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        out = subprocess.run(arguments, env=environment, check=True, capture_output=True).stdout
        peaks.append(int(out))
    bytes_a_pair = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    print(f"{bytes_a_pair:.0f} bytes a pair")
    assert bytes_a_pair < 160


def test_the_stream_reads_no_further_than_asked(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"one\n\xff\n")
    target.write_bytes(b"eins\nzwei\n")
    stream = stream_pairs(source, target)
    assert next(stream) == ("one", "eins")
    with pytest.raises(ValueError, match="Line 2 of .*a' is not UTF-8"):
        next(stream)


@pytest.mark.parametrize("size", [{"batch_size": 2}, {"batch_tokens": 6}])
def test_batches_are_those_of_pairs_in_memory(tokenizer, paths, tmp_path, size):
    on_disk = encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids")
    in_memory = encode_pairs(list(zip(SOURCE, TARGET, strict=True)), tokenizer, tokenizer)
    one, other = (TrainingBatches(each, **size, seed=3) for each in (on_disk, in_memory))
    assert one.shapes == other.shapes
    steps = 2 * one.steps_per_epoch
    for start in (0, 1):
        both = zip(one.dataset(start).take(steps), other.dataset(start).take(steps), strict=True)
        for batch, expected in both:
            for part, wanted in zip(tf.nest.flatten(batch), tf.nest.flatten(expected), strict=True):
                np.testing.assert_array_equal(part, wanted)
    pairs = zip(evaluation_batches(on_disk, 2), evaluation_batches(in_memory, 2), strict=True)
    for (_, target), (_, wanted) in pairs:
        np.testing.assert_array_equal(target, wanted)


def test_a_model_is_fitted_on_files(tokenizer, paths, tmp_path):
    batches = TrainingBatches(
        encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids"), batch_tokens=9
    )
    model = luong_seq2seq(20, 20, units=4)
    model.compile("adam", MaskedCrossentropy(), jit_compile=True)
    history = model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def array(name, change):
    """Writes an array anew."""
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def ids(change):
    """Writes the ids of the sources anew."""

    def attack(folder):
        file = folder / "source.ids"
        file.write_bytes(change(np.fromfile(file, "int32")).astype("int32").tobytes())

    return attack


def facts(change):
    return lambda folder: edited(folder / "facts.json", change)


def put(array, place, value):
    array[place] = value
    return array


ENDS = "source.ends.npy"
# Each of them is seen without the hashes, of which whoever writes the files can write others.
ATTACKS = [
    (lambda folder: (folder / "facts.json").write_text(DEEP), "facts.json' .*50 levels deep"),
    (lambda folder: truncated(folder / "facts.json"), "facts.json' cannot be read"),
    (facts(lambda found: [found]), "facts.json' cannot be read: it must be an object"),
    (facts(lambda found: found.pop("dropped") and None), "facts.json' .*object that holds"),
    (facts(lambda found: found.update(other=1)), "facts.json' .*object that holds"),
    (facts(lambda found: found.update(dropped={"empty": 5.5})), "`dropped.empty` must be an int"),
    (facts(lambda found: found["fingerprint"].update(pairs=-1)), "`fingerprint.pairs` must be"),
    (facts(lambda found: found["fingerprint"].update(source_sha256="x")), "`fingerprint.source_sh"),
    (facts(lambda found: found.update(max_length=10**9)), "made of something else: max_length"),
    (facts(lambda found: found.update(tokenizers=[])), "made of something else: tokenizers"),
    (lambda folder: (folder / ENDS).unlink(), "ids' must hold a file 'source.ends.npy'"),
    (lambda folder: truncated(folder / ENDS), "source.ends.npy' cannot be read: .*header"),
    (lambda folder: (folder / ENDS).write_bytes(npy((10**12,), "<i8")), "ends.npy' .*declares"),
    (array(ENDS, lambda ends: ends.astype(float)), "ends.npy' cannot be read: .*integers.*float64"),
    (array(ENDS, lambda ends: ends[None]), "ends.npy' cannot be read: .*shape"),
    (array(ENDS, lambda ends: ends[:0]), "ends.npy' .*rows of 1 to 100 ids.*Received: 0 rows"),
    (array(ENDS, lambda ends: put(ends, 1, ends[0])), "ends.npy' .*Received: 4 rows of 0 to"),
    (array(ENDS, lambda ends: put(ends, 0, -1)), "ends.npy' .*Received: 4 rows of -1 to"),
    (
        array(ENDS, lambda ends: put(ends, -1, 10**9)),
        "ends.npy' .*rows of 1 to 1000000000|to 99999",
    ),
    (array(ENDS, lambda ends: ends[:-1]), "source.ids' cannot be read: it must have"),
    (lambda folder: truncated(folder / "source.ids"), "source.ids' cannot be read: it must have"),
]


@pytest.fixture(scope="module")
def encoded(tokenizer, tmp_path_factory):
    """Two files of texts, and their ids."""
    place = tmp_path_factory.mktemp("encoded")
    paths = place / "a.en", place / "a.de"
    for path, texts in zip(paths, (SOURCE, TARGET), strict=True):
        path.write_text("\n".join(texts) + "\n")
    encode_files(*paths, tokenizer, tokenizer, place / "ids")
    return paths, place / "ids"


@pytest.fixture
def copy(encoded, tokenizer, tmp_path):
    """A copy of the ids, and what reads them."""
    paths, folder = encoded
    shutil.copytree(folder, tmp_path / "ids")

    def read(**options):
        return encode_files(*paths, tokenizer, tokenizer, tmp_path / "ids", **options)

    return tmp_path / "ids", read


@pytest.mark.parametrize(("attack", "message"), ATTACKS)
def test_one_error_names_file_and_fault(copy, attack, message):
    folder, read = copy
    attack(folder)
    with pytest.raises(ValueError, match=message):
        read(check_hashes=False)


def test_sides_with_other_numbers_of_rows(copy):
    folder, read = copy
    np.save(folder / ENDS, np.load(folder / ENDS)[:-1])
    end = int(np.load(folder / ENDS)[-1])
    ids(lambda ids: ids[:end])(folder)
    with pytest.raises(ValueError, match="ids' .*as many rows of one side .*Received: 3 and 4"):
        read(check_hashes=False)


@pytest.mark.parametrize("name", ["facts.json", "source.ids", "target.ids", "target.ends.npy"])
def test_a_bit_that_changed_is_seen(copy, name):
    folder, read = copy
    assert len(read()) == 4
    # Of the facts a digit, of the ends one that moves to the next row, of the ids another id.
    place = {"facts.json": -20, "target.ends.npy": -16}.get(name, 0)
    flipped(folder / name, place)
    with pytest.raises(ValueError, match=f"{name}' is not what was written there: its SHA-256"):
        read()
    if name.endswith(".ids"):
        assert len(read(check_hashes=False)) == 4


@pytest.mark.parametrize("value", [-1, 20, 2**31 - 1])
def test_ids_out_of_range_are_seen_where_their_hashes_are_right(copy, value):
    folder, read = copy
    ids(lambda ids: put(ids, 3, value))(folder)
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    with pytest.raises(ValueError, match="source.ids' must hold ids from 0 to 19. Received: "):
        read()


def test_a_folder_without_hashes(copy):
    folder, read = copy
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="ids' must hold a file 'SHA256SUMS'"):
        read()
    assert len(read(check_hashes=False)) == 4


def test_a_link_to_a_file_elsewhere_is_not_followed(copy, tmp_path):
    folder, read = copy
    linked(folder / "source.ids", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="source.ids' must be a file of its folder. It is a link"):
        read()


def test_memory_does_not_grow_with_the_ids(copy):
    folder, read = copy
    count, rows = 4_000_000, 40_000
    for side in ("source", "target"):
        np.full(count, 7, "int32").tofile(folder / f"{side}.ids")
        np.save(folder / f"{side}.ends.npy", np.arange(1, rows + 1) * (count // rows))
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    tracemalloc.start()
    assert len(read()) == rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # of 2 times 16 MB
