"""Folders from elsewhere: what would run code of theirs is refused."""

import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    LuongAttention,
    Seq2Seq,
    SubwordTokenizer,
    Translator,
)
from tests.hostile_files import DEEP, compressed, edited, linked, truncated, with_members
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "saved"
    untrained(tokenizer_of_numbers(), cell="gru").save(folder)
    return folder


def settings(**changes):
    return lambda folder: edited(folder / "translator.json", lambda found: found.update(changes))


def config(old, new):
    """Has the model's config say something else."""

    def attack(folder):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            text = archive.read("config.json").decode()
        assert old in text
        with_members(folder / "model.keras", config__json=text.replace(old, new))

    return attack


def weights(change):
    """Changes the model's weights."""

    def attack(folder):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r+") as file:
            change(next(iter(arrays_of(file))))
        with_members(folder / "model.keras", **{"model__weights__h5": content.getvalue()})

    return attack


def arrays_of(group):
    for one in group.values():
        yield from [one] if isinstance(one, h5py.Dataset) else arrays_of(one)


def set_nan(array):
    array[(0,) * array.ndim] = np.nan


SIZES = {"pairs": 3, "source_sha256": "0" * 64, "target_sha256": "0" * 64}


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (settings(max_length=5.5), "translator.json' .*`max_length` must be .*Received: 5.5"),
        (settings(max_length="5"), "translator.json' .*`max_length` must be"),
        (settings(max_length=float("nan")), "translator.json' .*`max_length` must be .*: nan"),
        (settings(max_length=0), "translator.json' .*`max_length` must be"),
        (settings(max_length=10**12), "translator.json' .*`max_length` must be"),
        (settings(training_data={}), "translator.json' .*`training_data` must be a list"),
        (settings(training_data=[1]), r"`training_data\[0\]` must be an object that holds pairs"),
        (settings(training_data=[SIZES | {"pairs": -1}]), r"`training_data\[0\].pairs` must be"),
        (settings(training_data=[SIZES | {"x": 1}]), r"`training_data\[0\]` must be an object"),
        (lambda folder: (folder / "translator.json").write_text("[]"), "translator.json' .*object"),
        (lambda folder: (folder / "translator.json").write_text(DEEP), "translator.json' .*levels"),
        (lambda folder: truncated(folder / "translator.json"), "translator.json' cannot be read"),
        (lambda folder: truncated(folder / "source.tokenizer"), "source.tokenizer': .*"),
        (lambda folder: (folder / "target.tokenizer").write_bytes(b""), "target.tokenizer': Not a"),
        (lambda folder: truncated(folder / "model.keras"), "model.keras' .*not a zip file"),
        (lambda folder: compressed(folder / "model.keras"), "model.keras' .*not be compressed"),
        (
            lambda folder: with_members(folder / "model.keras", config__json=DEEP),
            "model.keras' cannot be loaded: .*recursion",
        ),
        (
            lambda folder: with_members(folder / "model.keras", config__json="[]"),
            "model.keras' cannot be loaded",
        ),
        (
            lambda folder: with_members(folder / "model.keras", model__weights__h5=b"x"),
            "model.keras' cannot be loaded",
        ),
        (
            config('"input_dim": 27', '"input_dim": 1000000000'),
            "model.keras' .*declares 32000004694 weights, and the file has .* bytes",
        ),
        (config('"input_dim": 27', '"input_dim": -1'), "model.keras' cannot be loaded"),
        (config('"input_dim": 27', '"input_dim": "x"'), "model.keras' cannot be loaded"),
        (config('"input_dim": 27', '"input_dim": 28'), "model.keras' cannot be loaded"),
        (config('"class_name": "Embedding"', '"class_name": "Nothing"'), "model.keras' cannot be"),
        (weights(set_nan), "model.keras' .*` must hold finite numbers. Received: 1 others of"),
        *[
            (
                lambda folder, name=name: linked(folder / name, folder.parent / "elsewhere"),
                f"{name}' must be a file of its folder. It is a link",
            )
            for name in ("translator.json", "model.keras", "source.tokenizer", "target.tokenizer")
        ],
    ],
)
def test_one_error_names_file_and_fault(whole, tmp_path, attack, message):
    shutil.copytree(whole, tmp_path / "saved")
    attack(tmp_path / "saved")
    with pytest.raises(ValueError, match=message):
        Translator.load(tmp_path / "saved", compile=False)


def test_tokenizers_of_other_sizes_name_the_folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "saved")
    file = tmp_path / "saved" / "target.tokenizer"
    SubwordTokenizer.train(["one two three four five"], 16, exact=False).save(file, overwrite=True)
    with pytest.raises(ValueError, match="saved' is no saved translator: .* logits for 27"):
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
