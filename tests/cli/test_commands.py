"""The command, from two files to a model that is served, as a user types it."""

import gzip
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from keras_luong import Translator
from keras_luong.paths import path_of
from keras_luong.training import locked_folder, locked_name
from keras_luong_cli import main
from keras_luong_cli.parser import parser
from tests.serving.numbers import PAIRS
from tests.test_locks import other

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "saved_models" / "dates_demo" / "1"
TRAINS = "--vocabulary 27 --units 8 --cell gru --epochs 1 --batch-size 8 --max-length 9".split()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for side, name in enumerate(("en", "de")):
        lines = "".join(pair[side] + "\n" for pair in PAIRS)
        (folder / name).write_text(lines, encoding="utf-8")
        (folder / f"{name}.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "en_de"
    given = [*("train", texts / "en", texts / "de.gz", "--out", out), *TRAINS]
    assert main([*map(str, given), "--valid", str(texts / "en"), str(texts / "de")]) == 0
    return out


def process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # the command knows what to do
    return subprocess.Popen(
        [sys.executable, "-m", "keras_luong_cli", *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def given(monkeypatch, data):
    monkeypatch.setattr("keras_luong.text_files.standard_input", lambda *_: io.BytesIO(data))


def test_what_was_trained_is_a_translator(trained, texts):
    translator = Translator.load(trained)
    assert translator.max_length == 9 and translator.model.vocabulary_size == 27
    (data,) = translator.training_data
    assert data["pairs"] == len(PAIRS)
    assert sorted(path.name for path in trained.with_name("en_de.work").iterdir()) == [
        *("checkpoints", "joint.tokenizer", "logs")
    ]


def test_a_folder_that_exists_is_not_trained_into(trained, texts, capsys):
    arguments = map(str, ("train", texts / "en", texts / "de", "--out", trained, *TRAINS))
    assert main([*arguments]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err


def test_a_vocabulary_for_each_side(texts, tmp_path, capsys):
    """Two tokenizers, which stay in the work folder; another size is refused there."""
    out = tmp_path / "en_de"
    arguments = [*map(str, ("train", texts / "en", texts / "de", "--out", out)), "--separate"]
    arguments += TRAINS
    arguments[arguments.index("27")] = "18"
    assert main(arguments) == 0
    translator = Translator.load(out)
    sides = translator.source_tokenizer, translator.target_tokenizer
    assert [one.vocabulary_size for one in sides] == [18, 18]
    assert sides[0].model != sides[1].model
    assert (tmp_path / "en_de.work" / "source.tokenizer").read_bytes() == sides[0].model
    out.rename(tmp_path / "elsewhere")
    arguments[arguments.index("18")] = "17"
    assert main(arguments) == 2
    assert "with a vocabulary of 18: name another --work" in capsys.readouterr().err
    arguments.remove("--separate")
    assert main(arguments) == 2
    assert "of a training with --separate: name another --work" in capsys.readouterr().err
    assert not out.exists()


def test_a_vocabulary_is_as_large_as_the_text_allows(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Translator, "fit", lambda *_, **__: None)
    arguments = [*map(str, ("train", texts / "en", texts / "de", "--out", tmp_path / "en_de"))]
    assert main([*arguments, "--units", "8"]) == 0
    size = Translator.load(tmp_path / "en_de").source_tokenizer.vocabulary_size
    assert f"note: the vocabulary has {size} subwords, not 8000" in capsys.readouterr().err
    arguments[-1] += "_2"
    assert main([*arguments, "--vocabulary", str(size + 1)]) == 2
    message = f"error: --vocabulary must be at most {size}, for .* Received: {size + 1}"
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.glob("en_de_2*"))


def test_lines_come_back_in_order(trained, monkeypatch, capsysbinary):
    lines = [b"one two", b"", b"three\r", "ä \u2028 x".encode(), b"\xff four", b"two"] * 7
    given(monkeypatch, b"\n".join(lines))
    assert main(["translate", str(trained), "--batch-size", "4", "--search", "greedy"]) == 0
    *found, last = capsysbinary.readouterr().out.decode().split("\n")
    assert last == "" and len(found) == len(lines)
    texts = [line.decode("utf-8", "replace").rstrip("\r") for line in lines]
    assert found == Translator.load(trained).translate(texts)
    assert found[1] == ""


def test_files_and_scores(trained, texts, capsysbinary):
    arguments = ["translate", str(trained), str(texts / "en"), "--scores", "--beam-width", "2"]
    assert main(arguments) == 0
    found = [line.split("\t") for line in capsysbinary.readouterr().out.decode().splitlines()]
    assert len(found) == len(PAIRS) and all(float(score) <= 0 for score, _ in found)


@pytest.fixture
def echo(monkeypatch):
    """In the place of every translator one that says what it hears."""
    said = SimpleNamespace(
        max_length=9,
        translate=lambda texts, *_, **__: texts,
        explain=lambda texts, *_, **__: [SimpleNamespace(text=text) for text in texts],
    )
    monkeypatch.setattr(Translator, "load", lambda *_, **__: said)


def test_packed_files_and_standard_input(trained, texts, echo, monkeypatch, capsysbinary):
    given(monkeypatch, b"two one\n")
    assert main(["translate", str(trained), str(texts / "en.gz"), "-", str(texts / "en")]) == 0
    sources = [source for source, _ in PAIRS]
    expected = [*sources, "two one", *sources]
    assert capsysbinary.readouterr().out.decode().splitlines() == expected


BREAKS = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\n\n", " \n "]


@pytest.mark.parametrize("options", [[], ["--scores"]], ids=str)
def test_a_translation_is_one_line_whatever_is_in_it(
    trained, monkeypatch, capsysbinary, tmp_path, options
):
    said = iter([f"{one}a{one}b{one}" for one in BREAKS])
    explain = lambda texts, *_, **__: [SimpleNamespace(text=next(said), score=-1) for _ in texts]  # noqa: E731
    fake = SimpleNamespace(max_length=9, explain=explain)
    monkeypatch.setattr(Translator, "load", lambda *_, **__: fake)
    (tmp_path / "in").write_text("x\n" * len(BREAKS))
    assert main(["translate", str(trained), str(tmp_path / "in"), *options]) == 0
    out = capsysbinary.readouterr().out
    assert out.endswith(b"\n") and out.count(b"\n") == len(BREAKS)
    lines = out.decode().splitlines()
    assert len(lines) == len(BREAKS)
    assert all(line.split()[-2:] == ["a", "b"] for line in lines)


def test_utf16_is_not_translated(trained, echo, tmp_path, capsys):
    path = tmp_path / "utf16"
    path.write_text("one\n", encoding="utf-16-le")
    assert main(["translate", str(trained), str(path)]) == 2
    assert "has a NUL byte" in capsys.readouterr().err


def test_a_pipe_is_answered_line_by_line(trained):
    with process("translate", trained, bufsize=0) as one:
        for line in (b"one\n", b"two three\n", b"\n"):
            one.stdin.write(line)
            assert one.stdout.readline().endswith(b"\n")  # before there is more to read
        one.stdin.close()
        assert one.stdout.read() == b"" and one.wait() == 0
        assert one.stderr.read() == b""  # nor are there notes of TensorFlow's


def test_a_reader_that_has_enough_is_no_error(trained):
    with process("translate", trained, bufsize=0) as one:
        one.stdin.write(b"one\n")
        one.stdout.readline()
        one.stdout.close()
        one.stdin.write(b"two\n" * 10)  # and there may be more: standard input stays open
        assert one.wait() == 0
        assert b"Traceback" not in one.stderr.read()


def test_ctrl_c_stops_without_a_traceback(trained):
    with process("translate", trained, bufsize=0) as one:
        one.stdin.write(b"one\n")
        one.stdout.readline()
        one.send_signal(signal.SIGINT)
        assert one.wait() == 130
        error = one.stderr.read()
        assert b"keras-luong: stopped" in error and b"Traceback" not in error


def test_a_full_disk_under_the_translations(trained, texts, echo, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["translate", str(trained), str(texts / "en")]) == 2
    assert "No space left on device: 'standard output'" in capsys.readouterr().err


def test_sigterm_leaves_no_half_export(trained, tmp_path, monkeypatch, capsys):
    def end(*_, **__):
        assert list((tmp_path / "en_de").glob(".1.*.unfinished"))
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("tensorflow.saved_model.save", end)
    assert main(["export", str(trained), str(tmp_path / "en_de"), "--search", "greedy"]) == 143
    assert capsys.readouterr().err.endswith("keras-luong: stopped by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_cannot_train_or_export_in_one_place(trained, texts, tmp_path, monkeypatch, capsys):
    """The second hears of the first before a file is read."""
    out, models = tmp_path / "en_de", tmp_path / "models"
    words = [*map(str, ("train", texts / "en", texts / "de", "--out", out)), *TRAINS]
    export = ["export", str(trained), str(models), "--search", "greedy"]
    monkeypatch.setattr("keras_luong_cli.commands.read_pairs", None)
    for lock, path, command in (
        (locked_folder, tmp_path / "en_de.work", words),
        (locked_name, out, [*words, "--work", str(tmp_path / "other")]),
        (locked_name, models / "1", export),
    ):
        with other(lock, path) as process:
            assert process.stdout.readline() == "in\n"
            assert main(command) == 2
            said = f"error: '{path}' is being written by process {process.pid} on "
            assert said in capsys.readouterr().err
            process.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_all_of_it_at_paths_with_a_scheme(texts, tmp_path, capsysbinary):
    pytest.importorskip("sacrebleu")
    there = path_of(f"ram://{uuid.uuid4().hex}")
    files = [str(there / "texts" / name) for name in ("en", "de.gz")]
    (there / "texts").upload(texts)
    out, models = there / "out" / "en_de", there / "models"
    # Not en_de.work: to TensorFlow's ram:// the beginning of a name is a folder that exists.
    work = ["--work", str(there / "work")]
    assert main(["train", *files, "--out", str(out), *work, *TRAINS]) == 0
    assert (there / "work" / "joint.tokenizer").is_file()
    short = ["--search", "greedy"]
    capsysbinary.readouterr()
    assert main(["translate", str(out), files[0], *short]) == 0
    assert capsysbinary.readouterr().out.count(b"\n") == len(PAIRS)
    scores = there / "new" / "scores.json"
    assert main(["evaluate", str(out), *files, *short, "--out", str(scores)]) == 0
    assert json.loads(scores.read_text()) == json.loads(capsysbinary.readouterr().out)
    assert main(["export", str(out), str(models), *short, "--scores", str(scores)]) == 0
    assert main(["check", str(models / "1"), "--no-run"]) == 0
    card = json.loads((models / "1" / "assets.extra" / "model_card.json").read_text())
    assert card["scores"] == json.loads(scores.read_text())
    assert list(tmp_path.iterdir()) == []


def test_from_scores_to_a_served_model(trained, texts, tmp_path, capsys):
    pytest.importorskip("sacrebleu")
    scores, models = tmp_path / "scores.json", tmp_path / "en_de"
    files = [str(texts / "en"), str(texts / "de"), "--out", str(scores), "--search", "greedy"]
    assert main(["evaluate", str(trained), *files]) == 0
    said = capsys.readouterr()
    assert re.search(r"^BLEU: nrefs:1.*\|tok:13a\|.*\nchrF: nrefs:1", said.err, re.MULTILINE)
    printed = json.loads(said.out)
    assert set(printed) == {"BLEU", "chrF", "exact_match"}
    assert printed == json.loads(scores.read_text())
    export = ["export", str(trained), str(models), "--search", "greedy", "--scores", str(scores)]
    assert main(export) == 0
    assert capsys.readouterr().out == f"{models / '1'}\n"
    card = json.loads((models / "1" / "assets.extra" / "model_card.json").read_text())
    assert card["scores"] == printed
    assert card["training_data"] == Translator.load(trained).training_data
    assert main(["check", str(models / "1"), "--no-run", "--ops"]) == 0
    said = capsys.readouterr().out
    assert "TF Serving 2.20 can serve it." in said
    assert re.search(r"  MatMul +2.18 2.19 2.20\n", said)
    assert main(["serve-config", str(models / "1"), "--out", str(tmp_path / "config")]) == 0
    assert 'width of "source_ids"' in (tmp_path / "config" / "batching.config").read_text()
    assert main([*export[:2], str(models / "1")]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err


HYPOTHESES = """\
The dog runs quickly through the wet grass.
A man in a blue shirt is standing on a ladder, cleaning a window.
Two children are playing football in the park
"""
REFERENCES = """\
The dog runs through the wet green grass.
A man in a blue shirt stands on a ladder and cleans a window.
Two young children are playing football in the park near the river.
"""
# By sacreBLEU 2.6.0 itself, with the texts above in two files:
#     python -m sacrebleu references -i hypotheses -m bleu chrf --tokenize 13a -w 4
# The other way round it says 46.4791 (13a), 72.0180 (char) and 71.7938 (chrF).
BY_SACREBLEU = {
    "13a": {"BLEU": 47.0287, "chrF": 67.7756, "exact_match": 0.0},
    "char": {"BLEU": 71.9471, "chrF": 67.7756, "exact_match": 0.0},
}


@pytest.mark.parametrize("tokenize", BY_SACREBLEU)
def test_scores_are_those_of_the_command_of_sacrebleu(trained, echo, tmp_path, capsys, tokenize):
    pytest.importorskip("sacrebleu")
    (tmp_path / "in").write_text(HYPOTHESES)
    (tmp_path / "out").write_text(REFERENCES)
    scores = str(tmp_path / "scores.json")
    files = [str(tmp_path / "in"), str(tmp_path / "out"), "--out", scores]
    assert main(["evaluate", str(trained), *files, "--tokenize", tokenize]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == BY_SACREBLEU[tokenize]
    assert f"BLEU: nrefs:1|case:mixed|eff:no|tok:{tokenize}|smooth:exp|version:" in said.err
    assert "chrF: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in said.err
    # What `export` writes into the model's card.
    export = parser().parse_args(["export", str(trained), "models", "--scores", scores])
    assert export.scores == BY_SACREBLEU[tokenize]


def test_the_tokenizer_of_bleu(trained, echo, tmp_path, capsys):
    """Characters: 6 of 6, 5 of 5, 4 of 4 and 3 of 3 n-grams are right, and one is missing."""
    pytest.importorskip("sacrebleu")
    (tmp_path / "in").write_text("我们都是好朋\n", encoding="utf-8")
    (tmp_path / "out").write_text("我们都是好朋友\n", encoding="utf-8")
    scores = tmp_path / "new" / "scores.json"
    files = [str(tmp_path / "in"), str(tmp_path / "out"), "--out", str(scores)]
    assert main(["evaluate", str(trained), *files, "--tokenize", "zh"]) == 0
    assert "|tok:zh|" in capsys.readouterr().err
    assert json.loads(scores.read_text())["BLEU"] == pytest.approx(100 * math.exp(1 - 7 / 6), 1e-5)


def test_a_model_that_cannot_be_served_fails_the_check(tmp_path, capsys):
    import tensorflow as tf

    module, text = tf.Module(), tf.TensorSpec([None], tf.string, name="text")
    module.function = tf.function(lambda text: {"size": tf.size(text)}, input_signature=[text])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.function})
    assert main(["check", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "problem: signature 'serving_default': output \"size\" is a scalar" in said
    assert said.endswith("TF Serving 2.20 cannot serve it.\n")
