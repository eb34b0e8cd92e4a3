"""`examples/serving/translate_files.py` on Beam's local runner: `make test-beam`."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.beam

beam = pytest.importorskip("apache_beam", reason="Apache Beam is not installed: make test-beam")

import tensorflow as tf  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from examples.serving import translate_files  # noqa: E402
from examples.serving.translate_files import (  # noqa: E402
    Chunk,
    Failure,
    Job,
    WriteChunk,
    main,
    translated,
)

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "saved_models" / "dates_demo" / "1"


class Shout(tf.Module):
    """Writes texts in capitals, slowly if told so, and cannot bear "poison"."""

    def __init__(self, rounds):
        super().__init__()
        self.rounds = rounds

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text):
        is_poison = tf.strings.regex_full_match(text, ".*poison.*")
        tf.debugging.Assert(tf.logical_not(tf.reduce_any(is_poison)), ["it is poison"])
        matrix = tf.eye(300)
        for _ in tf.range(self.rounds):
            matrix = matrix @ matrix
        with tf.control_dependencies([matrix]):
            return {"translation": tf.strings.upper(text)}


def saved(folder, rounds=0):
    model = Shout(rounds)
    tf.saved_model.save(model, str(folder), signatures=model.serve.get_concrete_function())
    return folder


@pytest.fixture(scope="module")
def shout(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("shout") / "1")


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def run(model, folders, *options):
    source, target = folders
    main([str(model), "--input", str(source), "--output", str(target), *map(str, options)])


def visible(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_folder_of_dates(folders, capsys):
    source, target = folders
    days = [f"{day}/5/21" for day in range(1, 26)]
    dates = [f"2021-05-{day:02}" for day in range(1, 26)]
    (source / "plain.txt").write_text("\n".join(days) + "\n")
    (source / "no_end").write_text("\n".join(days[:3]))
    (source / "windows.txt").write_bytes("\r\n".join(days[:3]).encode())
    (source / "gaps.txt").write_text(f"\n{days[0]}\n\n")
    (source / "empty.txt").touch()
    (source / "odd.txt").write_bytes(b"\xff\xfe\n3/5/21\n")
    with gzip.open(source / "packed.txt.gz", "wt") as file:
        file.write("\n".join(reversed(days)) + "\n")
    (source / ".hidden").write_text("x")
    (source / "marked.txt").write_bytes(b"\xef\xbb\xbf3/5/21")
    run(DEMO, folders, "--chunk-lines", 10, "--batch-size", 4)
    assert visible(target) == visible(source)
    assert (target / "plain.txt").read_text() == "\n".join(dates) + "\n"
    assert (target / "no_end").read_text() == "\n".join(dates[:3]) + "\n"
    assert (target / "windows.txt").read_text() == "\n".join(dates[:3]) + "\n"
    assert (target / "gaps.txt").read_text() == f"\n{dates[0]}\n\n"
    assert (target / "empty.txt").read_bytes() == b""
    assert (target / "odd.txt").read_text().splitlines()[1] == "2021-05-03"
    with gzip.open(target / "packed.txt.gz", "rt") as file:
        assert file.read() == "\n".join(reversed(dates)) + "\n"
    assert (target / "marked.txt").read_text() == "2021-05-03\n"
    assert not any((target / ".unfinished").iterdir())
    assert capsys.readouterr().out == "8 files, 62 lines\n"


def test_a_translation_is_one_line_whatever_is_in_it(tmp_path):
    """Counted against the input; bytes that are no UTF-8 stay."""
    said = [b"a\nb", b"a\rb\r\n", "a\u2028b\x85".encode(), b"a\n\nb", b"a\xffb", Failure("no")]
    job, chunk = Job("", str(tmp_path)), Chunk("in/texts", 0, [b"x"] * len(said))
    *_, written = WriteChunk(job).process((chunk, said))
    assert written == ("in/texts", 0)
    out = Path(job.part("in/texts", 0)).read_bytes()
    assert out == b"a b\na b\na b\na  b\na\xffb\n\n"
    assert len(out.decode(errors="replace").splitlines()) == len(said)


def test_folders_below(shout, folders, capsys):
    source, target = folders
    for name in ("a.txt", "below/a.txt", "below/deeper/b.txt", ".hidden/c.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"{name}\n")
    run(shout, folders)
    found = {
        path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*.txt")
    }
    assert found == {
        name: f"{name.upper()}\n" for name in ("a.txt", "below/a.txt", "below/deeper/b.txt")
    }
    assert capsys.readouterr().out == "3 files, 3 lines\n"


def test_an_output_in_the_input_is_not_translated(shout, folders, capsys):
    source, _ = folders
    (source / "a.txt").write_text("one\n")
    for _ in range(2):
        run(shout, (source, source / "out"))
    assert visible(source / "out") == {"a.txt"}
    assert capsys.readouterr().out.count("1 files, 1 lines") == 2


def test_a_poison_line_goes_to_the_side_and_loses_nothing_else(shout, folders, capsys):
    source, target = folders
    lines = [f"line {number}" for number in range(50)]
    lines[17], lines[42], lines[43] = "a poison", "poison", "more poison"
    (source / "a.txt").write_text("\n".join(lines))
    (source / "b.txt").write_text("well\n")
    run(shout, folders, "--chunk-lines", 20, "--batch-size", 8)
    expected = [line.upper() for line in lines]
    expected[17] = expected[42] = expected[43] = ""
    assert (target / "a.txt").read_text().split("\n") == [*expected, ""]
    assert (target / "b.txt").read_text() == "WELL\n"
    records = map(json.loads, (target / "a.txt.failed.jsonl").read_text().splitlines())
    records = {record["line"]: record for record in records}
    assert {line: record["text"] for line, record in records.items()} == {
        18: "a poison",
        43: "poison",
        44: "more poison",
    }
    assert all("it is poison" in record["error"] for record in records.values())
    assert visible(target) == {"a.txt", "a.txt.failed.jsonl", "b.txt"}
    assert "2 files, 51 lines, 3 failed: see" in capsys.readouterr().out


def test_the_side_output_is_a_collection(shout, folders):
    source, target = folders
    (source / "a.txt").write_text("one\npoison\nthree\n")
    job = Job(str(shout), str(target))
    path = str(source / "a.txt")
    with beam.Pipeline() as pipeline:
        found = translate_files.translate_files(pipeline | beam.Create([path]), job)
        assert_that(found["finished"], equal_to([path]), label="finished")
        failed = found["failed"] | beam.Map(lambda record: (record["line"], record["text"]))
        assert_that(failed, equal_to([(2, "poison")]), label="failed")


def test_what_is_done_is_not_done_again(shout, folders, capsys):
    source, target = folders
    (source / "a.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    (source / "b.txt").write_text("six\n")
    run(shout, folders, "--chunk-lines", 2)
    assert "2 files, 6 lines\n" in capsys.readouterr().out
    run(shout, folders, "--chunk-lines", 2)
    assert capsys.readouterr().out == (
        "All files are translated.\n2 files, 6 lines\n"
        "Of these 2 files and 6 lines were done before.\n"
    )
    # As if the run had ended after the second chunk of the first file, which had a failure.
    (target / "a.txt").unlink()
    parts = target / ".unfinished" / "a.txt"
    parts.mkdir()
    (parts / "00000001.txt").write_text("done\n\n")
    (parts / "00000001.failed.jsonl").write_text('{"line": 4}\n')
    (parts / ".0123.00000002.txt").write_text("FI")  # half a chunk, under its temporary name
    (target / "b.txt").write_text("left alone\n")
    run(shout, folders, "--chunk-lines", 2)
    assert (target / "a.txt").read_text() == "ONE\nTWO\ndone\n\nFIVE\n"
    assert (target / "a.txt.failed.jsonl").read_text() == '{"line": 4}\n'
    assert (target / "b.txt").read_text() == "left alone\n"
    assert capsys.readouterr().out == (
        "2 files, 6 lines, 1 failed: see *.failed.jsonl\n"
        "Of these 1 files and 3 lines were done before.\n"
    )
    assert not parts.exists()


def test_a_run_that_is_killed_leaves_no_half_files_and_goes_on(tmp_path, folders):
    source, target = folders
    model = saved(tmp_path / "slow" / "1", rounds=15)
    texts = {f"{name}.txt": [f"{name} {line}" for line in range(200)] for name in "abcd"}
    for name, lines in texts.items():
        (source / name).write_text("\n".join(lines) + "\n")
    command = [sys.executable, str(ROOT / "examples" / "serving" / "translate_files.py")]
    command += [str(model), "--input", str(source), "--output", str(target)]
    command += ["--chunk-lines", "20", "--batch-size", "4"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    until = time.monotonic() + 240
    while len(done_chunks(target)) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    chunks = done_chunks(target)
    assert 3 <= len(chunks) < 40
    finished = visible(target)
    for name in finished:
        assert (target / name).read_text() == "".join(f"{one.upper()}\n" for one in texts[name])
    for chunk in chunks:
        assert chunk.read_text().count("\n") == 20
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    for name, lines in texts.items():
        assert (target / name).read_text() == "".join(f"{one.upper()}\n" for one in lines)
    before = 200 * len(finished) + 20 * len(chunks)
    assert result.stdout == (
        f"4 files, 800 lines\nOf these {len(finished)} files and {before} lines were done before.\n"
    )
    assert ".cc:" not in result.stderr  # TensorFlow's notes


def done_chunks(target):
    return [path for path in target.glob(".unfinished/*/*.txt") if not path.name.startswith(".")]


def test_another_job_does_not_mix_with_the_output(shout, folders, tmp_path):
    source, _ = folders
    (source / "a.txt").write_text("one\n")
    run(shout, folders)
    with pytest.raises(SystemExit, match="was begun with"):
        run(shout, folders, "--chunk-lines", 2)
    with pytest.raises(SystemExit, match="was begun with"):
        run(saved(tmp_path / "other" / "1", rounds=1), folders)


def test_no_files(shout, folders):
    with pytest.raises(SystemExit, match="no files"):
        run(shout, folders)


def test_a_line_that_is_no_text_is_a_failure():
    lines = ["one\n".encode("utf-16-le"), b"two", b"\0"]
    results = translated(lines, lambda texts: [text.upper() for text in texts], 8, ValueError)
    assert [isinstance(one, Failure) for one in results] == [True, False, True]
    assert results[1] == b"TWO" and "NUL byte" in results[0].error


def test_failures_are_found_among_their_batch():
    calls = []

    def translate(lines):
        calls.append(len(lines))
        if b"bad" in lines:
            raise ArithmeticError("no")
        return [line.upper() for line in lines]

    lines = [b"aaaa", b"bad", b"cc", b"", b"eeeee", b"f", b"gg", b"h"]
    results = translated(lines, translate, 8, ArithmeticError)
    assert results == [
        b"AAAA",
        Failure("ArithmeticError: no"),
        *[b"CC", b"", b"EEEEE", b"F", b"GG", b"H"],
    ]
    assert sorted(calls) == [1, 1, 2, 2, 4, 4, 8]
    with pytest.raises(ZeroDivisionError):  # of another kind: it is not the line's
        translated([b"a"], lambda lines: 1 / 0, 8, ValueError)
