import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_luong.training import Position, TextScores, TrainingCheckpoint
from tests.training.resumable import STEPS, build, interrupt, state, train


class Given(keras.callbacks.Callback):
    """Puts a score of each epoch into the logs."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def on_epoch_end(self, epoch, logs=None):
        logs["val_bleu"] = self.scores[epoch]


@pytest.fixture(autouse=True)
def ctrl_c(monkeypatch):
    import signal

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def quick(seed=1, **arguments):
    return build(seed, run_eagerly=True, **arguments)


def fit(directory, callbacks, step=None, model=None, epochs=6):
    """Trains, to the end or to a Ctrl-C after a step; the callbacks are new ones, as in life."""
    model = model or quick()

    def at(batch, logs):  # the optimizer counts the steps of all lives
        if int(model.optimizer.iterations) == step:
            interrupt()

    extra = [keras.callbacks.LambdaCallback(on_train_batch_end=at)]
    arguments = {"before": [*callbacks, *extra], "callbacks": callbacks, "epochs": epochs}
    if step is None:
        return model, train(model, directory, **arguments)
    with pytest.raises(KeyboardInterrupt):
        train(model, directory, **arguments)
    return model, None


def stopping():
    return [
        Given([1.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
        keras.callbacks.EarlyStopping(
            "val_bleu", mode="max", patience=2, restore_best_weights=True
        ),
    ]


@pytest.mark.parametrize("step", [12, 2 * STEPS, 17, 4 * STEPS])
def test_early_stopping_survives_an_interruption(tmp_path, step):
    # The best epoch is the second, so the two that do not beat it are the third and the fourth.
    best = quick(optimizer="adam")
    train(best, tmp_path / "whole", epochs=2)
    directory = tmp_path / "parts"
    fit(directory, stopping(), step, quick(optimizer="adam"))
    model, _ = fit(directory, stopping(), model=quick(2, optimizer="adam"))
    for here, there in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)
    # It is over: no step, and the same weights.
    after, position = fit(directory, stopping(), model=quick(3, optimizer="adam"))
    assert position == Position(4, 0, 4 * STEPS, stopped=True)
    assert int(after.optimizer.iterations) == 4 * STEPS
    for here, there in zip(after.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


def test_the_plateau_goes_on(tmp_path):
    def plateau():
        scores = Given([5.0, 1.0, 1.0, 1.0, 1.0, 1.0])
        return [
            scores,
            keras.callbacks.ReduceLROnPlateau(
                "val_bleu", 0.5, patience=2, mode="max", cooldown=2, min_delta=0
            ),
        ]

    rates = {}
    for name, steps in {"whole": [], "parts": [12, 18]}.items():
        for step in steps:
            fit(tmp_path / name, plateau(), step)
        model, _ = fit(tmp_path / name, plateau())
        rates[name] = float(model.optimizer.learning_rate)
    # Halved after the third epoch and, since it rests in the fourth, the sixth; by whoever forgets,
    # once.
    assert rates == {"whole": pytest.approx(0.0125), "parts": pytest.approx(0.0125)}


def test_scores_are_repeated_as_before(tmp_path):
    def scores():
        return TextScores(
            lambda texts: translated.append(1) or texts, [("a", "a")], ["exact_match"], 2
        )

    translated = []
    fit(tmp_path, [scores()], 7)
    assert len(translated) == 1
    again = scores()
    fit(tmp_path, [again], 2 * STEPS + 1)
    assert (len(translated), again.last_scores) == (1, {"val_exact_match": 1.0})


def test_averages_are_out_of_the_model_when_it_is_saved(tmp_path):
    def swap():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]

    whole, _ = fit(tmp_path / "whole", swap(), epochs=3)
    for step in (STEPS, 8, 2 * STEPS):
        fit(tmp_path / "parts", swap(), step, epochs=3)
    parts, _ = fit(tmp_path / "parts", swap(), epochs=3)
    for here, there in zip(state(parts), state(whole), strict=True):
        np.testing.assert_array_equal(here, there)


def test_what_a_callback_has_learnt_to_remember_since_begins_anew(tmp_path):
    class Counting(keras.callbacks.Callback):
        remembered_attributes = ("count",)
        count = 5

    fit(tmp_path, [Counting()], 7)
    Counting.remembered_attributes, Counting.count, Counting.words = ("count", "words"), 0, "none"
    again = Counting()
    fit(tmp_path, [again], 9)
    assert (again.count, again.words) == (5, "none")


def test_whatever_a_callback_names(tmp_path):
    class Counting(keras.callbacks.Callback):
        remembered_attributes = ("count", "arrays", "words")

        def __init__(self):
            super().__init__()
            self.count, self.arrays, self.words = 0, [], {}

        def on_train_batch_end(self, batch, logs=None):
            self.count += 1
            self.arrays.append(np.full((2,), self.count, "float32"))
            self.words[str(self.count)] = [np.float64(0.1), None, float("inf"), True]

    fit(tmp_path, [Counting(), Counting()], 7)
    first, second, third = Counting(), Counting(), Counting()
    checkpoint = TrainingCheckpoint(
        tmp_path, steps_per_epoch=STEPS, callbacks=[first, second, keras.callbacks.History(), third]
    )
    model = quick()
    checkpoint.restore(model)
    checkpoint.set_model(model)
    checkpoint.set_params({"steps": STEPS})
    checkpoint.on_train_begin()
    checkpoint.on_train_end()
    assert (first.count, second.count, third.count) == (7, 7, 0)
    np.testing.assert_array_equal(second.arrays[6], [7.0, 7.0])
    assert second.words["7"] == [0.1, None, float("inf"), True]
