"""Folders from elsewhere: what would run code of theirs is refused."""

import json
import pickle
import re
from pathlib import Path

import keras
import pytest

from keras_luong import AttentionDecoder, AttentionDecoderCell, LuongAttention, Seq2Seq, Translator
from tests.serving.numbers import VOCABULARY, tokenizer_of_numbers, untrained

ROOT = Path(__file__).resolve().parents[2]


def with_lambda(tokenizer, marker):
    """A translator whose encoder runs Python code that is in its file."""
    source = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(VOCABULARY, 8, mask_zero=True)(source)

    # Keras writes the code of a lambda expression into the file.
    path = str(marker)
    runs = lambda values, path=path: (open(path, "w").close(), values)[1]  # noqa: E731
    memory = keras.layers.Lambda(runs, output_shape=(None, 8))(words)
    cell = AttentionDecoderCell(keras.layers.GRUCell(8), LuongAttention(), 8)
    embedding = keras.layers.ReversibleEmbedding(VOCABULARY, 8)
    model = Seq2Seq(keras.Model(source, memory), embedding, AttentionDecoder(cell))
    return Translator(model, tokenizer, tokenizer, max_length=5)


def test_a_lambda_layer_is_refused(tmp_path):
    marker = tmp_path / "it_ran"
    translator = with_lambda(tokenizer_of_numbers(), marker)
    translator.save(tmp_path / "saved")
    translator.translate(["one"])
    marker.unlink()  # so it runs where it is trusted
    with pytest.raises((ValueError, TypeError), match="(?s)Lambda.*safe_mode=False"):
        Translator.load(tmp_path / "saved")
    assert not marker.exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["model.keras", "source.tokenizer", "translator.json"])
def test_a_pickle_in_the_place_of_a_file_is_not_run(tmp_path, name):
    untrained(tokenizer_of_numbers(), cell="gru").save(tmp_path / "saved")
    marker = tmp_path / "it_ran"
    (tmp_path / "saved" / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises((ValueError, OSError)):
        Translator.load(tmp_path / "saved")
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker))).close()  # it would have
    assert marker.exists()


def test_settings_that_are_none_are_refused(tmp_path):
    untrained(tokenizer_of_numbers(), cell="gru").save(tmp_path / "saved")
    file = tmp_path / "saved" / "translator.json"
    file.write_text(json.dumps({"max_length": 5, "model": "other"}))
    with pytest.raises(ValueError, match="translator.json.*Received: .*'model'"):
        Translator.load(tmp_path / "saved")


def test_nothing_of_ours_uses_what_runs_code():
    """No pickle, no Lambda layer, and Keras' safe mode is left on."""
    unsafe = re.compile(
        r"\bpickle\b|Lambda\(|safe_mode|enable_unsafe_deserialization|\beval\(|\bexec\("
    )
    folders = (ROOT / "keras_luong", ROOT / "keras_luong_cli", ROOT / "examples")
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 80
    found = [path.name for path in sources if unsafe.search(path.read_text(encoding="utf-8"))]
    assert found == []
