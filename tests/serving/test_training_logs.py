"""The log of a training as TensorBoard serves it."""

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_luong import SubwordTokenizer, Translator, luong_seq2seq
from keras_luong.serving.training_logs import model_settings
from keras_luong.training import (
    HyperParameters,
    MaskedCrossentropy,
    TokenAccuracy,
    draw_alignment,
)

PAIRS = [("one two", "eins zwei"), ("two", "zwei"), ("one", "eins"), ("two one", "zwei eins")]
EPOCHS, PEAK = 3, 0.02


class Board:
    """TensorBoard in a process of its own, asked over HTTP."""

    def __init__(self, folder):
        arguments = f"--port 0 --host 127.0.0.1 --load_fast false --logdir {folder}".split()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        address = None
        while address is None:  # it says where it is once it can be asked
            line = self.process.stderr.readline()
            assert line, "TensorBoard ended"
            address = re.search(r"at (http://127\.0\.0\.1:\d+)", line)
        self.url = address[1] + "/data/"

    def get(self, path, **query):
        url = self.url + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()

    def json(self, path, **query):
        return json.loads(self.get(path, **query))

    def post(self, path, **body):
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def scalars(self, run, tag):
        """Values by step."""
        points = self.json("plugin/scalars/scalars", run=run, tag=tag)
        return {step: value for _, step, value in points}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small training with a log, in a folder of several; what it returned."""
    keras.utils.set_random_seed(2015)  # made before `same_start` can set it
    tokenizer = SubwordTokenizer.train([text for pair in PAIRS for text in pair], 16)
    model = luong_seq2seq(16, 16, units=8, num_layers=2, score_mode="dot", dropout=0.25)
    schedule = keras.optimizers.schedules.CosineDecay(PEAK, 10)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    model.compile(optimizer, MaskedCrossentropy(), metrics=[TokenAccuracy()], jit_compile=False)
    translator = Translator(model, tokenizer, tokenizer, max_length=9)
    folder = tmp_path_factory.mktemp("logs")
    history = translator.fit(
        PAIRS,
        PAIRS[:2],
        epochs=EPOCHS,
        batch_size=2,
        buckets=1,
        seed=5,
        log_dir=folder / "small",
        alignment_texts=["one two"],
        sample_pairs=PAIRS[:2],
        verbose=0,
    )
    return translator, folder, history.history


@pytest.fixture(scope="module")
def board(trained):
    board = Board(trained[1])
    yield board
    board.process.terminate()
    board.process.wait(20)


def test_what_is_there(board):
    runs = [
        f"small/{part}" for part in "alignments hyper_parameters texts train validation".split()
    ]
    assert sorted(board.json("runs")) == runs


def test_scalars(board, trained):
    history = trained[2]
    for name, values in history.items():
        run = "small/validation" if name.startswith("val_") else "small/train"
        shown = board.scalars(run, f"epoch_{name.removeprefix('val_')}")
        np.testing.assert_allclose([shown[epoch] for epoch in range(EPOCHS)], values, rtol=1e-6)
    names = "loss token_accuracy gradient_norm gradient_norm_max words_per_second".split()
    assert set(history) == {*names, "val_loss", "val_token_accuracy"}
    assert all(value > 0 for name in names for value in history[name])
    # Two steps an epoch; the rate is that of the step to come.
    rates = board.scalars("small/train", "epoch_learning_rate")
    for epoch in range(EPOCHS):
        steps = 2 * (epoch + 1)
        expected = PEAK * (1 + np.cos(np.pi * steps / 10)) / 2
        np.testing.assert_allclose(rates[epoch], expected, rtol=1e-5)


def test_alignments(board, trained):
    images = board.json("plugin/images/images", run="small/alignments", tag="alignment_0", sample=0)
    assert [image["step"] for image in images] == list(range(EPOCHS))
    last = board.get(f"plugin/images/individualImage?{images[-1]['query']}")
    figure = draw_alignment(trained[0].align(["one two"])[0])
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    np.testing.assert_array_equal(tf.io.decode_png(last).numpy(), drawn)


def test_translations(board, trained):
    translator = trained[0]
    texts = board.json("plugin/text/text", run="small/texts", tag="translations")
    assert [text["step"] for text in texts] == list(range(EPOCHS))
    rows = re.findall(r"<tr>\s*(.*?)\s*</tr>", texts[-1]["text"], re.DOTALL)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    written = translator.translate([source for source, _ in PAIRS[:2]])
    assert cells == [
        ["source", "reference", "translation"],
        *([*pair, text] for pair, text in zip(PAIRS, written, strict=False)),
    ]


def test_hyperparameters(board, trained):
    model, history = trained[0].model, trained[2]
    answer = board.post(
        "plugin/hparams/session_groups",
        experimentName="",
        allowedStatuses=["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        colParams=[],
        startIndex=0,
        sliceSize=10,
    )
    (group,) = answer["sessionGroups"]
    assert group["hparams"] == {
        "batch_size": 2,
        "buckets": 1,
        "epochs": EPOCHS,
        "seed": 5,
        "vocabulary_size": 16,
        "parameters": model.count_params(),
        "cell": "LSTMCell",
        "layers": 2,
        "units": 8,
        "input_feeding": True,
        "attention": "LuongAttention",
        "score_mode": "dot",
        "window": "global",
        "tie_embeddings": True,
        "dropout": 0.25,
        "word_dropout": 0.0,
        "consistency": 0.0,
        "label_smoothing": 0.0,
        "optimizer": "Adam",
        "global_clipnorm": 1.0,
        "schedule": "CosineDecay",
        "schedule.initial_learning_rate": PEAK,
        "schedule.decay_steps": 10,
        "schedule.alpha": 0.0,
        "schedule.warmup_steps": 0,
    }
    final = {one["name"]["tag"]: one["value"] for one in group["metricValues"]}
    assert set(final) == {f"final/{name}" for name in history}
    for name, values in history.items():
        np.testing.assert_allclose(final[f"final/{name}"], values[-1], rtol=1e-6)


def test_a_plain_learning_rate_is_one_number():
    model = luong_seq2seq(9, 9, units=4)
    model.compile(keras.optimizers.SGD(0.5))
    settings = model_settings(model)
    assert (settings["optimizer"], settings["learning_rate"]) == ("SGD", 0.5)


@keras.saving.register_keras_serializable(package="tests")
def falling_rate():
    return 0.25


def test_a_learning_rate_that_is_a_function_is_its_name():
    model = luong_seq2seq(9, 9, units=4)
    model.compile(keras.optimizers.SGD(falling_rate, gradient_accumulation_steps=2))
    settings = model_settings(model)
    assert (settings["schedule"], settings["gradient_accumulation_steps"]) == ("function", 2)


def test_values_that_no_table_can_hold(tmp_path):
    with pytest.raises(TypeError, match=r"strings, booleans and numbers.*sizes=\[1\] of type list"):
        HyperParameters(tmp_path, {"sizes": [1]})
