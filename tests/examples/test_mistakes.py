"""A mistake in the words of an example is said at once, before TensorFlow is imported."""

import io
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / "models" / "1").mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "options.json").write_text(json.dumps({"seed": 2}))
    return tmp_path


TRAIN = "translate.py --train a b"
WRONG = {
    "translate.py --train no_file b": "There is no file 'no_file'",
    "translate.py --train texts b": "'texts' must be a text file. It is a folder",
    f"{TRAIN} --valid - -": "Only one of the files can be standard input",
    f"{TRAIN} --out models/1": "'models/1' exists and is not overwritten",
    f"{TRAIN} --out models/x": "named by an integer from 1",
    f"{TRAIN} --work a": "a' must be a folder. It is a file",
    f"{TRAIN} --work work": "work is of a training with .*seed=2.*: name another .*: .*seed=1",
    f"{TRAIN} --units 7": "--units must be even. Received: 7",
    f"{TRAIN} --test a b --tokenize zn": "--tokenize must be one of .*Received: zn",
    f"{TRAIN} --vocabulary abc": "--vocabulary: must be a whole number of at least 1, not 'abc'",
    f"{TRAIN} --both-ways-epochs -1": "--both-ways-epochs: must be a whole number of at least 0",
    f"{TRAIN} --consistency -1": "--consistency: must be a finite number of at least 0",
    f"{TRAIN} --dropout 2": "--dropout: must be a number from 0 to below 1, not '2'",
    f"{TRAIN} --max-length 0": "--max-length: must be a whole number of at least 1",
    f"{TRAIN} --beam 0": "--beam: must be a whole number of at least 1, not '0'",
    f"{TRAIN} --length-penalty -1": "--length-penalty: must be a finite number of at least 0",
    "dates.py --out models/1": "'models/1' exists and is not overwritten",
    "dates.py --pairs 0": "--pairs: must be a whole number of at least 1, not '0'",
    "dates.py --held-out 4001": "--held-out: must be at most 4000",
    "dates.py --logs a": "a' must be a folder. It is a file",
    "load_saved_model.py models/1": "'models/1' is no SavedModel",
    "load_saved_model.py": "python examples/load_saved_model.py",
    "serving/translate.py localhost dates --timeout 0": "--timeout: must be a finite number",
    "serving/translate.py http:// dates": "url must be like http://localhost:8501",
    "serving/translate_files.py models/1 --input texts --output out": "'models/1' is no SavedModel",
    "written_dates.py --count -1": "must not be negative",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_done_is_said_before_tensorflow_is_imported(
    folder, monkeypatch, capsys, words
):
    if "--tokenize" in words:
        pytest.importorskip("sacrebleu")
    for name in ("tensorflow", "keras", "keras_luong", "apache_beam"):
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it has an error
    name, *words_of_it = words.split()
    monkeypatch.setattr("sys.argv", [name, *words_of_it])
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said = stopped.value.code if isinstance(stopped.value.code, str) else capsys.readouterr().err
    assert re.search(WRONG[words], said), said
    assert sorted(folder.rglob("*")) == before
