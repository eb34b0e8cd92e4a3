"""The export in TF Serving's own loader, against `Translator.explain`; and what export refuses."""

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    BeamSearch,
    LuongAttention,
    Seq2Seq,
    SubwordTokenizer,
    Translator,
    luong_seq2seq,
    rnn_encoder,
)
from keras_luong.serving import (
    Signature,
    check_saved_model,
    cpp_loader,
    export_saved_model,
    next_version,
)
from tests.serving.conftest import OTHER_PACKAGES
from tests.serving.numbers import (
    DTYPES,
    MAX_LENGTH,
    PAIRS,
    RANKS,
    TEXTS,
    TOO_LONG,
    VOCABULARY,
    assert_says,
    tokenizer_of_numbers,
    trained_translator,
    untrained,
)

ROOT = Path(__file__).resolve().parents[2]
SCORES = {"BLEU": np.float32(38.5), "pairs": np.int64(9)}
SEARCH = BeamSearch(4, length_penalty="gnmt", alpha=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of_numbers()


@pytest.fixture(scope="module")
def trained():
    return trained_translator()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "numbers" / "1"
    trained.export(path, SEARCH)
    return path


def files(folder):
    """Everything below a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_the_loader_of_tf_serving_says_what_translate_says(trained, exported, cpp_runner):
    right = trained.translate([source for source, _ in PAIRS])
    # Otherwise there would be little to compare.
    assert sum(text == target for text, (_, target) in zip(right, PAIRS, strict=True)) > 18
    expected = trained.explain(TEXTS, SEARCH)
    assert "<unk>" in expected[3].source_tokens and "<unk>" in expected[4].source_tokens
    assert len({len(one.target_tokens) for one in expected}) > 3
    (reply,) = cpp_loader.run(cpp_runner, exported, [TEXTS])
    assert_says(reply, expected)
    np.testing.assert_allclose(
        reply["attention_scores"].sum(-1),
        np.arange(reply["target_tokens"].shape[1]) < reply["target_length"][:, None],
        atol=1e-5,
    )


def test_one_text_a_request_is_row_for_row_the_same(trained, exported, cpp_runner):
    together, *alone = cpp_loader.run(cpp_runner, exported, [TEXTS, *([text] for text in TEXTS)])
    for row, (reply, one) in enumerate(zip(alone, trained.explain(TEXTS, SEARCH), strict=True)):
        assert_says(reply, [one])
        assert reply["translation"][0] == together["translation"][row]
        np.testing.assert_allclose(reply["score"][0], together["score"][row], atol=1e-5)
        # Nothing is padded where there is nobody to pad for.
        assert reply["source_tokens"].shape[1] == reply["source_length"][0]
        assert reply["target_tokens"].shape[1] == reply["target_length"][0]


def test_no_rows_and_rows_of_nothing(trained, exported, cpp_runner):
    none, one, two = cpp_loader.run(cpp_runner, exported, [[], [""], ["", " "]])
    assert {name: array.shape[0] for name, array in none.items()} == dict.fromkeys(DTYPES, 0)
    assert {name: array.ndim for name, array in none.items()} == {
        name: RANKS.get(name, 1) for name in DTYPES
    }
    for reply, texts in ((one, [""]), (two, ["", " "])):
        assert_says(reply, trained.explain(texts, SEARCH))
        assert reply["translation"].tolist() == [b""] * len(texts)
        assert reply["score"].tolist() == [0.0] * len(texts)
        assert reply["source_tokens"].tolist() == [[b"</s>"]] * len(texts)
        assert reply["target_length"].tolist() == [0] * len(texts)
        assert reply["attention_scores"].shape == (len(texts), 0, 1)


def test_bytes_that_are_not_utf8_are_read_as_the_replacement_character(
    trained, exported, cpp_runner
):
    (reply,) = cpp_loader.run(cpp_runner, exported, [[b"one \xff\xfe two", b"\x00"]])
    assert_says(reply, trained.explain(["one \ufffd\ufffd two", "\x00"], SEARCH))


def test_a_text_beyond_the_limit_is_cut(exported, cpp_runner):
    cut = " ".join(TOO_LONG.split()[:MAX_LENGTH])
    (reply,) = cpp_loader.run(cpp_runner, exported, [[TOO_LONG, cut]])
    assert reply["source_length"].tolist() == [MAX_LENGTH + 1] * 2
    assert reply.pop("truncated").tolist() == [True, False]
    for array in reply.values():
        np.testing.assert_array_equal(array[0], array[1])


OTHERS = {
    "two layers of GRU, no input feeding": {
        "cell": "gru",
        "num_layers": 2,
        "input_feeding": False,
    },
    "location": {"score_mode": "location", "max_source_length": 5, "tie_embeddings": False},
    "dot, one way": {"score_mode": "dot", "bidirectional": False, "cell": "gru"},
}


OTHER_MODELS = [
    # Each is an export and a load; the first has the most of its own.
    pytest.param(arguments, id=name, marks=[pytest.mark.long] if index else [])
    for index, (name, arguments) in enumerate(OTHERS.items())
]


@pytest.mark.parametrize("arguments", OTHER_MODELS)
def test_other_models_serve_too(tokenizer, tmp_path, cpp_runner, arguments):
    translator = untrained(tokenizer, **arguments)
    translator.export(tmp_path / "1")
    expected = translator.explain(TEXTS, "beam")
    assert len({one.text for one in expected}) > 3
    longest = min(MAX_LENGTH, arguments.get("max_source_length", 99) - 1)
    assert max(len(one.source_tokens) for one in expected) == longest + 1
    batch, *alone = cpp_loader.run(cpp_runner, tmp_path / "1", [TEXTS, [], TEXTS[:1]])
    assert_says(batch, expected)
    subwords = tokenizer.tokenize(TEXTS).row_lengths().numpy()
    np.testing.assert_array_equal(batch["truncated"], subwords > longest)
    assert_says(alone[0], [])
    assert_says(alone[1], expected[:1])


def test_half_precision_inside_is_float32_outside(tokenizer, tmp_path, cpp_runner):
    keras.config.set_dtype_policy("mixed_float16")
    translator = untrained(tokenizer)
    translator.export(tmp_path / "1", "greedy")
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [TEXTS])
    assert {name: tf.as_dtype(reply[name].dtype) for name in ("score", "attention_scores")} == {
        "score": tf.float32,
        "attention_scores": tf.float32,
    }
    assert_says(reply, translator.explain(TEXTS), tolerance=1e-2)


def test_a_quantized_model_serves_and_is_smaller(tokenizer, tmp_path, cpp_runner):
    translator = untrained(tokenizer)
    before, targets = translator.score(["one"], ["eins"]), ["eins", "", "zwei eins"]
    translator.export(tmp_path / "1", "greedy")
    translator.model.quantize("int8")
    assert translator.score(["one"], ["eins"])[0].log_prob != before[0].log_prob
    with pytest.raises(ValueError, match="quantized model cannot be trained.*before `quantize`"):
        translator.fit(PAIRS)
    translator.save(tmp_path / "saved")
    loaded = Translator.load(tmp_path / "saved")
    loaded.export(tmp_path / "2", "greedy")
    sizes = [(tmp_path / version / "variables").glob("*.data*") for version in "12"]
    floats, integers = (sum(file.stat().st_size for file in files) for files in sizes)
    parameters = sum(np.prod(one.shape) for one in loaded.model.variables if one.dtype == "int8")
    assert parameters > 800 and integers < floats - 2 * parameters
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "2", [TEXTS])
    assert_says(reply, translator.explain(TEXTS))
    texts = {"text": ["one", "", "two one"], "target_text": targets}
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "2", [texts], signature="score")
    expected = [one.log_prob for one in translator.score(texts["text"], targets)]
    np.testing.assert_allclose(reply["log_prob"], expected, atol=1e-4)


def translator_of(source, target):
    sizes = (source.vocabulary_size, target.vocabulary_size)
    assert sizes[0] != sizes[1]
    keras.utils.set_random_seed(7)
    model = luong_seq2seq(*sizes, units=16, cell="gru")
    for variable in model.trainable_variables:
        variable.assign(variable * 3)
    return Translator(model, source, target, max_length=MAX_LENGTH)


def test_two_tokenizers_in_one_export(tmp_path, cpp_runner):
    source = SubwordTokenizer.train([source for source, _ in PAIRS], 14, model_type="char")
    target = SubwordTokenizer.train([target for _, target in PAIRS], 18)
    translator = translator_of(source, target)
    translator.export(tmp_path / "1", "greedy")
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [TEXTS])
    assert_says(reply, translator.explain(TEXTS))


@pytest.fixture(scope="module")
def exported_with_bpe(tmp_path_factory):
    """A translator and its export, whose tokenizers are two resources of one kind."""
    texts = [[source for source, _ in PAIRS], [target for _, target in PAIRS]]
    translator = translator_of(
        SubwordTokenizer.train(texts[0], 16, model_type="bpe"),
        SubwordTokenizer.train(texts[1], 280, model_type="bpe", byte_fallback=True),
    )
    path = tmp_path_factory.mktemp("bpe") / "1"
    translator.export(path, "greedy")
    return translator, path


def test_two_tokenizers_of_bpe_in_one_export(exported_with_bpe, cpp_runner):
    translator, path = exported_with_bpe
    (reply,) = cpp_loader.run(cpp_runner, path, [TEXTS])
    assert_says(reply, translator.explain(TEXTS))


def test_two_tokenizers_of_bpe_in_tensorflow_2_20(exported_with_bpe, runner_2_20):
    translator, path = exported_with_bpe
    (reply,) = cpp_loader.run(runner_2_20, path, [TEXTS], packages=OTHER_PACKAGES)
    assert_says(reply, translator.explain(TEXTS))


def test_versions_stand_side_by_side(trained, tokenizer, tmp_path, cpp_runner):
    models = [trained, untrained(tokenizer, cell="gru")]
    assert models[0].translate(TEXTS) != models[1].translate(TEXTS)
    for number, translator in enumerate(models, start=1):
        before = files(tmp_path)
        path = next_version(tmp_path)
        assert path == tmp_path / str(number)
        translator.export(path, "greedy")
        after = files(tmp_path)
        assert {name: after[name] for name in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    for number, translator in enumerate(models, start=1):
        (reply,) = cpp_loader.run(cpp_runner, tmp_path / str(number), [TEXTS])
        assert_says(reply, translator.explain(TEXTS))


def test_training_goes_on_after_an_export_which_stays_as_it_was(tokenizer, tmp_path, cpp_runner):
    translator = untrained(tokenizer, cell="gru")
    expected = translator.explain(TEXTS)
    translator.export(tmp_path / "1", "greedy")
    for variable in translator.model.trainable_variables:
        variable.assign(-variable)
    assert [one.text for one in translator.explain(TEXTS)] != [one.text for one in expected]
    (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [TEXTS])
    assert_says(reply, expected)


@pytest.mark.parametrize(
    "name", ["latest", "v1", "0", "-1", "1.5", "1e3", " 1", "²", "٣"], ids=ascii
)
def test_a_name_that_is_no_version(trained, tmp_path, name):
    with pytest.raises(ValueError, match="folders named by an integer.*Received: .*numbers"):
        trained.export(tmp_path / "numbers" / name)
    assert files(tmp_path) == {}


def test_an_existing_folder_is_refused_and_stays(trained, tmp_path):
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\x00older\xff")
    (tmp_path / "2").mkdir()
    (tmp_path / "3").write_bytes(b"a file")
    before = files(tmp_path)
    for name in before:
        if name.isdecimal():
            with pytest.raises(FileExistsError, match=f"{name}' exists.*Export the next version"):
                trained.export(tmp_path / name)
    assert files(tmp_path) == before


class Patched(keras.layers.Layer):
    """A head that writes into its logits with `slice_update`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(units)

    def call(self, vectors):
        logits = self.dense(vectors)
        start = [0] * len(logits.shape)
        return keras.ops.slice_update(logits, start, keras.ops.zeros_like(logits[..., :1]))


def with_head(tokenizer, head):
    step = AttentionDecoderCell(keras.layers.GRUCell(8), LuongAttention(), 8)
    model = Seq2Seq(
        rnn_encoder(VOCABULARY, 8, 4, state_sizes=[8], cell="gru"),
        keras.layers.Embedding(VOCABULARY, 8),
        AttentionDecoder(step),
        head,
    )
    return Translator(model, tokenizer, tokenizer, max_length=3)


def test_a_model_that_only_xla_can_run(tokenizer, tmp_path):
    translator = with_head(tokenizer, Patched(VOCABULARY))
    assert len(translator.translate(["one"])) == 1  # in Python it runs
    with pytest.raises(ValueError, match="(?s)cannot be served.*XlaDynamicUpdateSlice"):
        translator.export(tmp_path / "numbers" / "1")
    assert files(tmp_path) == {}


def test_an_export_where_a_scheme_leads(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [2.0]])])
    spec = {"x": tf.TensorSpec((None,), tf.float32)}
    signature = Signature(lambda x: {"y": model(tf.stack([x, x], 1))[:, 0]}, spec, {"x": [0.5]})
    folder = f"ram://{uuid.uuid4().hex}/models/dense"
    assert str(next_version(folder)) == f"{folder}/1"
    export_saved_model(f"{folder}/1", model, {"serving_default": signature}, scores=SCORES)
    assert str(next_version(folder)) == f"{folder}/2"
    loaded = tf.saved_model.load(f"{folder}/1").signatures["serving_default"]
    np.testing.assert_allclose(loaded(x=tf.constant([1.0, 2.0]))["y"], [3.0, 6.0])
    assert check_saved_model(f"{folder}/1", runs=False).problems == []
    with tf.io.gfile.GFile(f"{folder}/1/assets.extra/model_card.json") as file:
        assert json.loads(file.read())["scores"] == {"BLEU": 38.5, "pairs": 9}


def test_a_function_whose_outputs_cannot_be_served(trained, tmp_path):
    def ragged(texts):
        return {"ids": trained.source_tokenizer.tokenize(texts), "total": tf.size(texts)[None]}

    signatures = {"ids": Signature(ragged, {"text": tf.TensorSpec((None,), tf.string)})}
    with pytest.raises(ValueError, match="(?s)'ids' cannot.*\"ids\" is a RaggedTensorSpec"):
        export_saved_model(
            tmp_path / "a" / "1", trained.model, signatures, [trained.source_tokenizer]
        )
    assert files(tmp_path) == {}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    trained, tmp_path, monkeypatch, cpp_runner, error
):
    save = tf.saved_model.save

    def fail(holder, folder, **arguments):
        save(holder, folder, **arguments)
        (Path(folder) / "saved_model.pb").write_bytes(b"half")
        raise error("no space left")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(error, match="no space left"):
        trained.export(tmp_path / "1", "greedy")
    assert files(tmp_path) == {}
    if error is OSError:
        monkeypatch.undo()
        trained.export(tmp_path / "1", "greedy")
        (reply,) = cpp_loader.run(cpp_runner, tmp_path / "1", [TEXTS])
        assert_says(reply, trained.explain(TEXTS))


ON_JAX = """
import sys
from keras_luong import SubwordTokenizer, Translator, luong_seq2seq

saved, exported = sys.argv[1:]
tokenizer = SubwordTokenizer.train(["one two", "eins zwei"], 14)
translator = Translator(luong_seq2seq(14, 14, units=4), tokenizer, tokenizer, max_length=5)
translator.save(saved)
try:
    translator.export(exported)
except RuntimeError as error:
    print(error)
"""


def test_another_backend_refuses_and_tensorflow_exports_what_it_saved(tmp_path, cpp_runner):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed here")
    saved, exported = tmp_path / "saved", tmp_path / "numbers" / "1"
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(saved), str(exported)],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "export it under KERAS_BACKEND=tensorflow. The backend is 'jax'" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    translator = Translator.load(saved)
    translator.export(exported, "greedy")
    (reply,) = cpp_loader.run(cpp_runner, exported, [["one two", ""]])
    assert_says(reply, translator.explain(["one two", ""]))


@pytest.mark.parametrize(
    "present, expected",
    [
        ([], "1"),
        (["1"], "2"),
        (["1", "2", "9", "10"], "11"),
        (["3"], "4"),
        (["007"], "8"),
        (["latest", "-5", "1.5", "²", "٣", ".7.unfinished"], "1"),
    ],
)
def test_the_next_version(tmp_path, present, expected):
    assert next_version(tmp_path / "none") == tmp_path / "none" / "1"
    for name in present:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == tmp_path / expected
    assert next_version(str(tmp_path)) == tmp_path / expected
    assert not (tmp_path / expected).exists()


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_full_disk_leaves_nothing(tmp_path, small_disk, size):
    """TensorFlow's own error of it is one of Python's, whatever part found no room."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    kernel = model.weights[0].value
    signature = Signature(
        lambda x: {"y": tf.matmul(x, kernel)}, {"x": tf.TensorSpec((None, 64), tf.float32)}
    )
    path = tmp_path / "models" / "1"
    with small_disk(size), pytest.raises(OSError, match=str(path)):
        export_saved_model(path, model, {"serving_default": signature})
    assert not list(tmp_path.rglob("*1*"))
