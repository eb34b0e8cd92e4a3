import keras
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_luong.training import SampleTexts
from keras_luong.training.sample_texts import table
from tests.labelled import Labelled


def test_the_texts_of_each_epoch_stand_in_the_log(tmp_path):
    answers = iter([["a cat", "the"], ["a dog", "the house"]])
    calls = []

    def translate(texts):
        calls.append(list(texts))
        return next(answers)

    pairs = [("ein Hund", "a dog"), ("das Haus", "the house")]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = SampleTexts(tmp_path, lambda texts: iter(translate(texts)), Labelled(pairs))
    model.fit(np.ones((2, 3)), np.ones((2, 1)), epochs=2, callbacks=[callback], verbose=0)
    assert calls == [["ein Hund", "das Haus"]] * 2

    log = EventAccumulator(str(tmp_path / "texts"))
    log.Reload()
    (tag,) = log.Tags()["tensors"]
    events = log.Tensors(tag)
    shown = [event.tensor_proto.string_val[0].decode() for event in events]
    assert (tag, [event.step for event in events]) == ("translations", [0, 1])
    assert "| ein Hund | a dog | a cat |" in shown[0]
    assert "| das Haus | the house | the house |" in shown[1]


def test_what_markdown_would_read_as_its_own_stands_as_it_is():
    row = table(["text"], [["**a**  |\n_b_ <script>&amp;"]]).splitlines()[-1]
    assert row == "| &#42;&#42;a&#42;&#42; &#124; &#95;b&#95; &lt;script&gt;&amp;amp; |"
