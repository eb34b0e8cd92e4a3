"""Mistakes are said at once: what imports TensorFlow, `keras_luong_cli.commands`, is not there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_luong.paths import path_of
from keras_luong.serving.servable_ops import releases
from keras_luong_cli import main
from keras_luong_cli.checks import check, translator, work_folder
from keras_luong_cli.parser import parser

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "saved_models" / "dates_demo" / "1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With two texts, a file and a folder in the way, and what looks like a saved translator."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "keras_luong_cli.commands", None)
    for name in ("a", "b", "en_de/model.keras", "en_de/source.tokenizer", "en_de/target.tokenizer"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / "en_de" / "translator.json").write_text("{}")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "models" / "3").mkdir(parents=True)
    return tmp_path


WRONG = {
    "train no_file b --out c": "There is no file 'no_file'",
    "train models b --out c": "'models' must be a text file. It is a folder",
    "train a b --out en_de": "'en_de' exists and is not overwritten",
    "train a b --out a/c": "a' must be a folder. It is a file",
    "train a b --out c --work b": "b' must be a folder. It is a file",
    "train a b --out c --valid a no_file": "There is no file 'no_file'",
    "train - - --out c": "Only one of the files can be standard input",
    "train - b --valid a - --out c": "Only one of the files can be standard input",
    "train a b --out c --units 7": "--units must be even. Received: 7",
    "translate nowhere": r"'nowhere' is no saved translator: \['model.keras', .*not found",
    "translate en_de no_file": "There is no file 'no_file'",
    "translate en_de - -": "Only one of the files can be standard input",
    "translate en_de --search greedy --beam-width 3": "--beam-width is of --search beam",
    "translate en_de --search greedy --length-penalty 1": "--length-penalty is of --search beam",
    "evaluate en_de a no_file": "There is no file 'no_file'",
    "evaluate en_de a b --out list.json": "'list.json' exists and is not overwritten",
    "evaluate en_de a b --out a/scores": "a' must be a folder. It is a file",
    "evaluate en_de a b --tokenize zn": "--tokenize must be one of .*ja-mecab.* Received: zn",
    "evaluate models a b": "'models' is no saved translator",
    "export nowhere m/1": "'nowhere' is no saved translator",
    "export en_de models/3": "'models/3' exists and is not overwritten",
    "export en_de models/0": "named by an integer from 1 without .* Received: 'models/0'",
    "export en_de a": "a' must be a folder. It is a file",
    "export en_de models --n-best 6": "--n-best must be at most --beam-width, 5. It is 6",
    "export en_de models --search greedy --n-best 2": "--n-best is of --search beam",
    "check models": "'models' is no SavedModel: it has no saved_model.pb",
    "serve-config models --out x": "'models' is no SavedModel: it has no saved_model.pb",
    "export en_de models/07": "integer from 1 without leading zeros, .* Received: 'models/07'",
    f"serve-config {DEMO} --out c --name ../x": "--name. Received: '../x'",
    f"serve-config {DEMO} --out c --name=": "must not be empty, .* Received: ''",
    f"serve-config {DEMO} --out a": "a' must be a folder. It is a file",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_done_is_said_before_tensorflow_is_imported(folder, capsys, words):
    if "--tokenize" in words:
        pytest.importorskip("sacrebleu")
    before = sorted(folder.rglob("*"))
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert re.match(f"keras-luong {words.split()[0]}: error: .*{WRONG[words]}", error), error
    assert sorted(folder.rglob("*")) == before


REMOTE = {
    "train ram://checks/no_file b --out c": "There is no file 'ram://checks/no_file'",
    "train ram://checks b --out c": "'ram://checks' must be a text file. It is a folder",
    "train a b --out ram://checks/file": "'ram://checks/file' exists and is not overwritten",
    "train a b --out c --work ram://checks/file": "checks/file' must be a folder. It is a file",
    "translate ram://checks/file": "'ram://checks/file' is no saved translator",
    "evaluate en_de a b --out ram://checks/file": "'ram://checks/file' exists and is not",
    "export en_de ram://checks/0": "named by an integer from 1 .* Received: 'ram://checks/0'",
    "check ram://checks": "'ram://checks' is no SavedModel: it has no saved_model.pb",
}


@pytest.mark.parametrize("words", REMOTE)
def test_paths_with_a_scheme_are_looked_at_too(folder, capsys, words):
    if not path_of("ram://checks/file").exists():
        path_of("ram://checks/file").upload(folder / "a")
    if words.startswith("evaluate"):
        pytest.importorskip("sacrebleu")
    assert main(words.split()) == 2
    assert re.search(f"error: .*{REMOTE[words]}", said := capsys.readouterr().err), said


USAGE = {
    "train a b --out c --vocabulary abc": "--vocabulary: must be a whole number of at least 1.*abc",
    "train a b --out c --epochs 0": "--epochs: must be a whole number of at least 1, not '0'",
    "train a b --out c --batch-size 1.5": "--batch-size: must be a whole number.*not '1.5'",
    "train a b --out c --dropout 1": "--dropout: must be a number from 0 to below 1, not '1'",
    "train a b --out c --dropout x": "--dropout: must be a number from 0 to below 1, not 'x'",
    "train a b --out c --seed -1": "--seed: must be a whole number from 0 to 4294967295, not '-1'",
    "train a b --out none://bucket/en_de": "--out: TensorFlow has no file system for none:// here",
    f"serve-config {DEMO} --out ram://b": "--out: must be a path of this machine, not 'ram://b'",
    "train a b --out=": "--out: must be a path of this machine, not ''",
    "translate en_de --length-penalty nan": "--length-penalty: must be a finite number.*'nan'",
    "translate en_de --search best": "--search: invalid choice: 'best'.*beam.*greedy",
    "export en_de models --scores no_file": "--scores: must be a JSON file.*No such file",
    "export en_de models --scores a": "--scores: must be a JSON file. 'a'",
    "export en_de models --scores deep.json": "--scores: must be a JSON file.*recursion",
    "export en_de models --scores list.json": "--scores: must hold an object",
    f"serve-config {DEMO} --out c --host all": "--host: must be an IP address, .* not 'all'",
    f"check {DEMO} --release 1.15": "--release: invalid choice: '1.15'.*2.18.*2.19.*2.20",
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_options_are_named_in_plain_english(folder, capsys, words):
    with pytest.raises(SystemExit) as error:
        main(words.split())
    assert error.value.code == 2
    assert re.search(f"error: argument {USAGE[words]}", capsys.readouterr().err)


def test_the_releases_are_those_that_are_known():
    assert f"{{{','.join(releases())}}}" in parser_of("check").format_help()


def parser_of(command):
    (commands,) = parser()._subparsers._group_actions
    return commands.choices[command]


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    options = parser().parse_args(["train", "~/a", "~no_such_user/b", "--out=~/c"])
    assert [str(one) for one in (options.source, options.target, options.out)] == [
        "/home/someone/a",
        "~no_such_user/b",
        "/home/someone/c",
    ]


@pytest.mark.parametrize("out", ["en_de", "models/en_de", "ram://checks/en_de"])
def test_the_work_folder_stands_beside_the_translator(out):
    options = parser().parse_args(["train", "a", "b", "--out", out])
    assert str(work_folder(options)) == f"{out}.work"


def test_scores_from_standard_input(monkeypatch, folder):
    with Path("scores").open("w+") as file:
        file.write('{"BLEU": 38.5}')
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        options = parser().parse_args(["export", "en_de", "models", "--scores", "-"])
    assert options.scores == {"BLEU": 38.5}
    check(options)
    translator(Path("en_de"))


WITHOUT_TENSORFLOW = """
import sys
from keras_luong_cli import main
for words in sys.argv[1:]:
    assert main(words.split()) == 2
assert not {"keras", "tensorflow", "keras_luong"} & set(sys.modules)
"""


def test_the_checks_import_nothing_large(folder):
    """Nor do those of the tokenizers of sacreBLEU and of an earlier training."""
    Path("c.work").mkdir()
    Path("c.work", "joint.tokenizer").write_bytes(b"none")
    commands = [*WRONG, "train a b --out c --vocabulary 9"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *commands],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") >= len(commands)
