"""The story of examples/translate.py: from two files to an export, with an interruption."""

import argparse
import gzip
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_luong.paths import path_of
from keras_luong.serving import next_version
from keras_luong.training import locked_folder, locked_name
from tests.test_locks import other

pytest.importorskip("sacrebleu")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

from written_dates import FORMATS, split_dates  # noqa: E402

STEPS, EPOCHS, PAIRS = 50, 2, 200
PARTS = {"train": PAIRS, "valid": 20, "test": 20}
OUT = "saved_models/written_iso/1"
CHECKPOINTS = "work/written_iso/1/checkpoints"


def corpus(folder: Path, ending: str) -> list[str]:
    """Writes parallel files of dates; returns the options that name them.

    All lines are equally long, so that XLA compiles for one shape only.
    """
    dates = iter(random.Random(1).sample(split_dates().training, sum(PARTS.values())))
    options = []
    for part, count in PARTS.items():
        some = [next(dates) for _ in range(count)]
        written = [FORMATS["dots padded"](date, random.Random(1)) for date in some]
        names = [f"{part}.written{ending}", f"{part}.iso{ending}"]
        for name, lines in zip(names, (written, [date.isoformat() for date in some]), strict=True):
            data = "".join(f"{line}\n" for line in lines).encode()
            (folder / name).write_bytes(gzip.compress(data) if ending else data)
        options += [f"--{part}", *names]
    return options


def start(folder: Path, files: list[str], *options: str) -> subprocess.Popen:
    small = ["--vocabulary", "17", "--units", "8", "--max-length", "12", "--seed", "3"]
    command = [sys.executable, "-u", str(EXAMPLES / "translate.py"), *files, "--out", OUT, *small]
    return subprocess.Popen(
        [*command, "--epochs", str(EPOCHS), "--batch-size", str(PAIRS // STEPS), *options],
        cwd=folder,
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        encoding="utf-8",
    )


def finish(process: subprocess.Popen, folder: Path) -> tuple[int, str, str]:
    output, _ = process.communicate(timeout=500)
    return process.returncode, output, (folder / "stderr").read_text(encoding="utf-8")


def wait_for(step: int, process: subprocess.Popen) -> None:
    """Reads the progress that `fit` prints until it has come to a step of the first epoch."""
    seen = ""
    while not ((progress := re.search(rf"(\d+)/{STEPS}$", seen)) and int(progress[1]) >= step):
        character = process.stdout.read(1)
        assert character, f"it ended before step {step}"
        seen = seen[-20:] + character


def position(folder: Path) -> dict:
    (file,) = (folder / CHECKPOINTS).glob("*/position.json")
    return json.loads(file.read_text())


def exported(folder: Path) -> dict:
    reader = tf.train.load_checkpoint(str(folder / OUT / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run on plain files from start to end: its folder and its output."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output, errors = finish(start(folder, corpus(folder, "")), folder)
    assert code == 0, errors
    return folder, output


def test_from_plain_files_to_an_export(undisturbed):
    folder, output = undisturbed
    report = json.loads(re.search(r"^\{.*?^\}", output, re.DOTALL | re.MULTILINE)[0])
    assert {name: type(report[name]) for name in report} == {
        "minutes of training since this start": float,
        "target tokens a second": int,
        "peak memory in MB": int,
        "valid": str,
        "test": str,
    }
    assert report["target tokens a second"] > 0 and report["peak memory in MB"] > 100
    for part in ("valid", "test"):
        assert re.match(r"BLEU = [\d.]+ .*case:mixed.*tok:13a", report[part])
    assert f"Exported to {OUT}" in output
    assert position(folder)["step"] == STEPS * EPOCHS
    serve = tf.saved_model.load(str(folder / OUT)).signatures["serving_default"]
    assert serve(text=tf.constant(["03.05.2021", ""]))["translation"].shape == (2,)
    assert next_version((folder / OUT).parent).name == "2"
    assert list((folder / "work" / "written_iso" / "1" / "logs").glob("alignments/*tfevents*"))


@pytest.mark.long  # training/test_killed.py has the same of the library
def test_interrupted_at_a_random_step_it_goes_on_there(undisturbed, tmp_path):
    wanted = random.SystemRandom().randint(1, STEPS - 1)  # not of the seed that tests start from
    print(f"to be interrupted soon after step {wanted}")
    files = corpus(tmp_path, ".gz")
    process = start(tmp_path, files)
    wait_for(wanted, process)
    process.send_signal(signal.SIGINT)
    code, output, errors = finish(process, tmp_path)
    assert code == 1
    assert errors.endswith("Stopped. The same command goes on from the last checkpoint.\n")
    assert "Traceback" not in errors
    note = position(tmp_path)
    step = note["step"]
    print(f"interrupted after step {step}")
    assert wanted <= step < STEPS * EPOCHS
    assert (note["epoch"], note["steps_per_epoch"]) == (step // STEPS, STEPS)
    assert f"resumed after step {step} " in output
    assert not (tmp_path / OUT).exists()

    code, output, errors = finish(start(tmp_path, files), tmp_path)
    assert code == 0, errors
    assert re.search(r"Epoch (\d+)", output)[1] == str(step // STEPS + 1)
    assert position(tmp_path)["step"] == STEPS * EPOCHS
    # No batch was left out or seen twice, and dropout went on where it stopped.
    assert_the_same(exported(undisturbed[0]), exported(tmp_path))


def assert_the_same(expected: dict, got: dict) -> None:
    """Bit for bit."""
    assert set(got) == set(expected)
    different = [
        name
        for name, value in expected.items()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and (got[name] != value).any()
    ]
    assert len(expected) > 10 and not different


@pytest.mark.long  # what is learnt from is looked at below
def test_both_ways_first_and_what_was_done_of_it_is_not_done_again(tmp_path):
    files = corpus(tmp_path, "")
    options = ("--both-ways-epochs", "1", "--word-dropout", "0.1")
    code, _, errors = finish(start(tmp_path, files, *options), tmp_path)
    assert code == 0, errors
    assert position(tmp_path)["step"] == 3 * STEPS * EPOCHS
    work = tmp_path / "work" / "written_iso" / "1"
    (both,) = (work / "both-ways" / "checkpoints").glob("*/position.json")
    assert json.loads(both.read_text())["step"] == 2 * STEPS
    translations = work / "both-ways" / "translations.json"
    assert len(json.loads(translations.read_text())) == 2 * PAIRS

    expected, written = exported(tmp_path), translations.stat().st_mtime_ns
    shutil.rmtree(work / "checkpoints")
    shutil.rmtree(tmp_path / OUT)
    code, _, errors = finish(start(tmp_path, files, *options), tmp_path)
    assert code == 0, errors
    assert translations.stat().st_mtime_ns == written
    assert_the_same(expected, exported(tmp_path))


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("translate", EXAMPLES / "translate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def main(module, monkeypatch, tmp_path):
    """Calls the program in this process, in an empty folder, with these words."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["translate.py", *words])
        module.main()

    return call


def test_what_is_learnt_from_after_both_ways(module, tmp_path):
    """Each target is a text of the training files, or made of its source; no side is swapped.

    A translation that is empty is no text to learn from.
    """
    fitted = []
    translator = SimpleNamespace(
        model=SimpleNamespace(compile=lambda *_, **__: None),
        fit=lambda pairs, *_, **__: fitted.append(pairs),
        translate=lambda texts, search: [
            "" if text == "B" else f"{text} by {search}" for text in texts
        ],
    )
    options = argparse.Namespace(work=tmp_path, batch_size=2, buckets=1, learning_rate=0.1)
    options.__dict__.update(xla=None, seed=1, subword_sampling=None)
    options.both_ways_epochs = 2
    (tmp_path / "both-ways").mkdir()
    train = [("a", "A"), ("b", "B")]
    learnt = module.with_own_translations(translator, options, train, search="beam")
    assert fitted == [[("a", "A"), ("b", "B"), ("A", "a"), ("B", "b")]]
    assert learnt == [*train, ("a", "a by beam"), ("b", "b by beam"), ("A by beam", "A")]
    with pytest.raises(SystemExit, match="other training files: it has 4 .* there are 2 texts"):
        module.with_own_translations(translator, options, [("a", "A")], search="beam")


BAD_FILES = {
    "unequal": (b"a\nb\n", b"a\n", "with 2 and 'target' with 1"),
    "missing": (b"a\n", None, "There is no file 'target'"),
    "empty": (b"", b"a\n", "The file 'source' is empty"),
    "not UTF-8": (b"a\n\xff\n", b"a\nb\n", "Line 2 of 'source' is not UTF-8: byte 0xff"),
}


@pytest.mark.parametrize("source, target, message", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_named_before_anything_is_made(main, tmp_path, source, target, message):
    for name, data in (("source", source), ("target", target)):
        if data is not None:
            Path(name).write_bytes(data)
    before = sorted(tmp_path.iterdir())
    # With `SystemExit`, which prints the message alone, or an error with its traceback.
    with pytest.raises((SystemExit, ValueError, FileNotFoundError), match=message):
        main("--train", "source", "target", "--out", OUT)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_of_a_training_with_other_options_is_refused(module, tmp_path):
    """Nothing of the first is lost, and what only scores may be another."""
    options = argparse.Namespace(work=tmp_path / "work", seed=1, dropout=0.5, beam=5, xla=None)
    module.check_same_training(options)
    module.keep(options, SimpleNamespace(save=lambda path: path.write_text("")))
    module.check_same_training(options)
    options.beam, options.xla = 1, True
    module.check_same_training(options)
    kept = (options.work / "options.json").read_text()
    options.seed, options.dropout = 2, 0.3
    message = (
        r"work is of a training with seed=1, dropout=0.5: name another .*: seed=2, dropout=0.3"
    )
    with pytest.raises(ValueError, match=message):
        module.check_same_training(options)
    assert (options.work / "options.json").read_text() == kept


def test_work_and_out_may_have_a_scheme(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    work = path_of(f"ram://{uuid.uuid4().hex}") / "work"
    out = "ram://models/en_de/1"
    monkeypatch.setattr(sys, "argv", ["translate.py", "--train", "a", "b", "--out", out])
    assert module.arguments().work == Path("work/en_de/1")
    sys.argv += ["--work", str(work)]
    options = module.arguments()
    assert (options.work, options.out) == (work, path_of(out))
    tokenizer = module.tokenizer_for(options, [("a b", "b a")])
    module.keep(options, tokenizer)
    module.check_same_training(options)
    assert module.tokenizer_for(options, []).model == tokenizer.model
    translator = SimpleNamespace(translate=lambda texts, search: texts)
    for one in (translator, None):
        found = module.kept_translations(one, work / "both-ways" / "texts.json", ["x"], None)
        assert found == ["x"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lock", "path"), [(locked_folder, Path("work/written_iso/1")), (locked_name, Path(OUT))]
)
def test_two_cannot_train_in_one_folder_or_for_one_export(main, tmp_path, lock, path):
    for name in ("source", "target"):
        Path(name).write_text("a b\n")
    with other(lock, path) as process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(SystemExit, match=f"{path}' is being written by process {process.pid}"):
            main("--train", "source", "target", "--out", OUT)
        process.communicate("")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["source", "target"]


def test_consistency_is_the_models(module, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["translate.py", "--train", "a", "b", "--consistency", "0.5"])
    assert module.new_model(module.arguments(), 9).consistency == 0.5


def test_a_vocabulary_larger_than_the_text_allows(main, tmp_path):
    for name in ("source", "target"):
        Path(name).write_text("a b\n")
    words = ("--train", "source", "target", "--out", OUT)
    with pytest.raises(SystemExit, match="--vocabulary must be at most .* Received: 6000"):
        main(*words, "--vocabulary", "6000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_without_a_vocabulary_it_is_as_large_as_the_text_allows(module, capsys):
    options = argparse.Namespace(work=Path("no_folder"), vocabulary=None)
    tokenizer = module.tokenizer_for(options, [("a b", "b a")])
    assert f"no more than {tokenizer.vocabulary_size} subwords" in capsys.readouterr().out


def test_bleu_of_text_without_spaces(module):
    translator = SimpleNamespace(translate=lambda texts, search: texts)
    said = module.bleu(translator, [("我们都是好朋友", "我们都是好朋友")], None, "zh")
    assert re.fullmatch(r"BLEU = 100.00 \[nrefs:1\|.*\|tok:zh\|.*\]", said)
