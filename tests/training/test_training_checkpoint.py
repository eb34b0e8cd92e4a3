import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

pytest.importorskip("tensorflow")

from keras_luong.locks import locked_folder
from keras_luong.training import Position, TrainingCheckpoint
from tests.test_locks import other, said_by_another
from tests.training.resumable import EPOCHS, STEPS, At, batches, build, interrupt, state, train


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own handler, also where the tests run in the background and SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def undisturbed():
    """Final state and validation losses of a training that nobody stopped or saved."""
    model, history = build(), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: history.append((epoch, logs["val_loss"]))
    )
    validation = np.ones((2, 4), "float32"), np.ones((2, 1), "float32")
    model.fit(
        batches(0),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        validation_data=validation,
        callbacks=[note],
        verbose=0,
    )
    return state(model), history


def quick(**arguments):
    """The same model without the seconds of tracing, where numbers do not matter."""
    return build(run_eagerly=True, **arguments)


def interrupted_at(step, directory, make=build, **arguments):
    with pytest.raises(KeyboardInterrupt):
        train(make(), directory, before=[At(step, interrupt)], **arguments)


def position_in(directory):
    return TrainingCheckpoint(directory, steps_per_epoch=STEPS).restore(quick())


def assert_same(model, expected):
    for index, (here, there) in enumerate(zip(state(model), expected, strict=True)):
        np.testing.assert_array_equal(here, there, err_msg=f"variable {index}")


@pytest.mark.parametrize("step", [1, 4, 7, 13])
def test_resumed_equals_undisturbed_bit_for_bit(tmp_path, undisturbed, capsys, step):
    expected, expected_history = undisturbed
    history = []
    interrupted_at(step, tmp_path, history=history)
    assert f"resumed after step {step} (epoch {step // STEPS + 1}, " in capsys.readouterr().out
    model = build(seed=2)  # other weights, other dropout: all must come from the checkpoint
    position = train(model, tmp_path, history=history)
    assert position == Position(step // STEPS, step % STEPS, step)
    assert_same(model, expected)
    diary = next(layer for layer in model.layers if layer.name.startswith("diary"))
    np.testing.assert_array_equal(diary.seen, np.arange(STEPS * EPOCHS))
    assert history == expected_history


def test_interrupted_twice_in_one_epoch(tmp_path, undisturbed):
    for step in (6, 8):
        # The second time Keras counts the epoch's batches from 0 again, and so does `At`.
        interrupted_at(step - 1 if step == 8 else step, tmp_path)
        assert position_in(tmp_path).global_step == step
    model = build(seed=3)
    train(model, tmp_path)
    assert_same(model, undisturbed[0])


def test_gradients_that_wait_for_others_come_back(tmp_path):
    """A training that accumulates two batches, stopped between them."""

    def make():
        return build(optimizer=keras.optimizers.Adam(0.05, gradient_accumulation_steps=2))

    whole = make()
    train(whole, tmp_path / "whole")
    interrupted_at(7, tmp_path / "parts", make)
    resumed = make()
    assert train(resumed, tmp_path / "parts").global_step == 7
    for here, there in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("step", [5, 10])
def test_ctrl_c_at_the_end_of_an_epoch_waits_for_its_validation(tmp_path, undisturbed, step):
    history = []
    interrupted_at(step, tmp_path, history=history)
    assert [epoch for epoch, _ in history] == list(range(step // STEPS))
    model = build(seed=2)
    assert train(model, tmp_path, history=history) == Position(step // STEPS, 0, step)
    assert_same(model, undisturbed[0])
    assert history == undisturbed[1]


def test_ctrl_c_after_the_last_batch_still_interrupts(tmp_path, undisturbed, capsys):
    interrupted_at(STEPS * EPOCHS, tmp_path)
    assert f"after step {STEPS * EPOCHS} " in capsys.readouterr().out
    model = build(seed=2)
    assert train(model, tmp_path).epoch == EPOCHS  # nothing left but to put the averages in place
    assert_same(model, undisturbed[0])


def test_a_process_that_died_while_writing_is_resumed_in_another(tmp_path, undisturbed):
    script = Path(__file__).with_name("resumable.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    run = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True
    )
    assert (run.returncode, "interrupted" in run.stdout) == (9, True), run.stderr
    assert len(list(tmp_path.glob("*checkpoint*"))) == 2  # the whole one and the half one
    model = build(seed=3)
    assert train(model, tmp_path).global_step == 7
    assert_same(model, undisturbed[0])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000005-step-15"]


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("savez", OSError),
        ("fsync", OSError),
        ("rename", OSError),
        ("write_text", OSError),
        ("fsync", KeyboardInterrupt),
    ],
)
def test_a_failure_in_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch, place, error):
    train(quick(), tmp_path, epochs=1)
    owner = {"savez": np, "fsync": os, "rename": os, "write_text": Path}[place]

    def fail(*_, **__):
        raise error("disk full")

    monkeypatch.setattr(owner, place, fail)
    with pytest.raises(error, match="disk full"):
        train(quick(), tmp_path, epochs=2)
    monkeypatch.undo()
    assert position_in(tmp_path) == Position(1, 0, STEPS)
    assert len(list(tmp_path.iterdir())) == 1


def test_half_a_checkpoint_is_not_loaded_and_is_swept(tmp_path):
    train(quick(), tmp_path, epochs=1)
    (whole,) = tmp_path.iterdir()
    half = tmp_path / ".checkpoint-000009-step-40.0a1b.unfinished"
    shutil.copytree(whole, half)
    (half / "state.npz").write_bytes(b"half")
    assert position_in(tmp_path) == Position(1, 0, STEPS)
    train(quick(), tmp_path, epochs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000002-step-10"]


def test_how_often_and_how_many(tmp_path):
    names = {}
    for save_freq in ("epoch", 3, 5):
        directory = tmp_path / str(save_freq)
        train(quick(), directory, save_freq=save_freq, keep=9, epochs=2)
        names[save_freq] = [path.name.split("-")[-1] for path in sorted(directory.iterdir())]
    assert names == {"epoch": ["5", "10"], 3: ["3", "6", "9", "10"], 5: ["5", "10"]}
    train(quick(), tmp_path / "3", save_freq=3, keep=2)
    assert sorted(p.name.split("-")[-1] for p in (tmp_path / "3").iterdir()) == ["12", "15"]


def test_the_position_is_there_to_read(tmp_path):
    interrupted_at(7, tmp_path, make=quick)
    (folder,) = tmp_path.iterdir()
    note = json.loads((folder / "position.json").read_text())
    assert (note["step"], note["epoch"], note["steps_per_epoch"]) == (7, 1, STEPS)


def test_a_training_begun_anew_is_newer_than_a_longer_one_before(tmp_path):
    train(quick(), tmp_path, epochs=3)
    model = quick()
    model.fit(
        batches(0),
        steps_per_epoch=STEPS,
        callbacks=[TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS)],
        verbose=0,
    )
    assert position_in(tmp_path).global_step == STEPS


def test_nothing_there_is_the_start(tmp_path):
    model = quick()
    before = [ops.convert_to_numpy(v) for v in model.weights]
    checkpoint = TrainingCheckpoint(tmp_path / "none", steps_per_epoch=STEPS)
    assert checkpoint.restore(model) == Position(0, 0, 0)
    for here, there in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(here, there)


def test_sigterm_saves_and_ends_the_program(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        train(quick(), tmp_path, before=[At(7, lambda: signal.raise_signal(signal.SIGTERM))])
    assert end.value.code == 128 + signal.SIGTERM
    assert position_in(tmp_path).global_step == 7
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_ctrl_c_raises_at_once(tmp_path, ctrl_c):
    seen = []

    class Impatient(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            interrupt()
            seen.append("first")
            interrupt()
            seen.append("second")

    with pytest.raises(KeyboardInterrupt):
        train(quick(), tmp_path, before=[Impatient()])
    assert seen == ["first"]
    assert list(tmp_path.glob("*checkpoint*")) == []
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_the_handler_is_given_back(tmp_path, ctrl_c):
    inside = []
    train(
        quick(),
        tmp_path,
        epochs=1,
        before=[At(2, lambda: inside.append(signal.getsignal(signal.SIGINT)))],
    )
    assert inside[0] is not ctrl_c
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    interrupted_at(7, tmp_path, make=quick)
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_ctrl_c_works_as_ever_after_a_fit_that_failed(tmp_path, ctrl_c):
    def fail():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        train(quick(), tmp_path, before=[At(2, fail)])
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_another_process_cannot_train_in_the_folder(tmp_path):
    """Its `fit` says who does before the first batch; the folder is free however a `fit` ends."""
    said = []
    listen = At(5, lambda: said.append(said_by_another(locked_folder, tmp_path)))
    with pytest.raises(KeyboardInterrupt):
        train(quick(), tmp_path, before=[listen, At(7, interrupt)])
    assert f"process {os.getpid()} on" in said[0]
    with other(locked_folder, tmp_path) as process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
            train(quick(), tmp_path, epochs=EPOCHS + 1)
        process.communicate("")
    assert said_by_another(locked_folder, tmp_path) == "in\n"


def test_in_a_thread_it_saves_and_leaves_ctrl_c_alone(tmp_path, ctrl_c):
    thread = threading.Thread(target=train, args=(quick(), tmp_path), kwargs={"epochs": 1})
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert position_in(tmp_path) == Position(1, 0, STEPS)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("moment", ["on_epoch_end", "on_train_batch_end"])
def test_another_callback_may_stop_a_shortened_epoch(tmp_path, place, moment):
    interrupted_at(7, tmp_path, make=quick)

    class Stop(keras.callbacks.Callback):
        """Like EarlyStopping, or TerminateOnNaN at the epoch's last batch."""

        epochs = 0

        def on_train_batch_end(self, batch, logs=None):
            if moment == "on_train_batch_end" and batch == 2:
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            if moment == "on_epoch_end":
                self.model.stop_training = True

    stop, model = Stop(), quick()
    train(model, tmp_path, **{place: [stop]})
    assert (stop.epochs, model.stop_training) == (1, True)
    assert position_in(tmp_path).global_step == 10


def test_a_callback_that_gives_up_within_an_epoch_leaves_the_last_checkpoint(tmp_path):
    model = quick()

    def stop():
        model.stop_training = True

    train(model, tmp_path, before=[At(8, stop)])
    assert position_in(tmp_path).global_step == STEPS


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_every_variable_comes_back(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    model, seen = quick(), []

    def note_and_interrupt():
        seen.append(state(model))
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        train(model, tmp_path, before=[At(7, note_and_interrupt)])
    fresh = quick(seed=2)
    TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS).restore(fresh)
    assert_same(fresh, seen[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 7}, r"has `kernel \(3, 6\) float32`, the model to restore has `kernel \(3, 7\)"),
        ({"optimizer": "sgd"}, "has `optimizer Adam`, the model to restore has `optimizer SGD`"),
        ({"optimizer": "adam"}, r"has `optimizer variable \(6,\) float32`"),  # no averages
    ],
)
def test_a_checkpoint_of_another_model(tmp_path, change, message):
    train(quick(), tmp_path, epochs=1)
    model = quick(**change)
    before = [ops.convert_to_numpy(v) for v in model.variables]
    with pytest.raises(ValueError, match=message):
        TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS).restore(model)
    for here, there in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_checkpoint_of_another_number_of_steps(tmp_path):
    train(quick(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"steps_per_epoch=5 .* Received: steps_per_epoch=6"):
        TrainingCheckpoint(tmp_path, steps_per_epoch=6).restore(quick())


def test_a_checkpoint_of_other_settings(tmp_path):
    train(quick(), tmp_path, epochs=1, settings={"seed": 1, "files": None})
    # What it knows nothing of is no difference.
    train(quick(), tmp_path, epochs=1, settings={"seed": 1, "new": 2})
    train(quick(), tmp_path, epochs=1)
    message = "with files=None, seed=1 and .* Received: files='a', seed=2"
    with pytest.raises(ValueError, match=message):
        train(quick(), tmp_path, settings={"seed": 2, "files": "a"})


def test_a_model_that_is_not_compiled(tmp_path):
    train(quick(), tmp_path, epochs=1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="must be built, and compiled"):
        TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS).restore(model)


def test_several_steps_an_execution_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Received: steps_per_execution=5"):
        train(build(steps_per_execution=5), tmp_path)


def fit(model, checkpoint, data, **arguments):
    model.fit(data, callbacks=[checkpoint], verbose=0, **arguments)


def test_fit_must_agree(tmp_path, ctrl_c):
    interrupted_at(7, tmp_path, make=quick)
    checkpoint, model = TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS), quick()
    checkpoint.restore(model)
    with pytest.raises(ValueError, match=r"of this callback, 5. Received: steps_per_epoch=4"):
        fit(model, checkpoint, batches(7), steps_per_epoch=4, initial_epoch=1, epochs=2)
    with pytest.raises(ValueError, match=r"initial_epoch=1. Received: initial_epoch=0"):
        fit(model, checkpoint, batches(7), steps_per_epoch=STEPS)
    assert signal.getsignal(signal.SIGINT) is ctrl_c


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_a_dataset_that_ends(tmp_path, ctrl_c):
    checkpoint = TrainingCheckpoint(tmp_path, steps_per_epoch=STEPS)
    with pytest.raises(ValueError, match="ended after 3 of 5 batches of epoch 0"):
        fit(quick(), checkpoint, batches(0).take(3), steps_per_epoch=STEPS)
    assert signal.getsignal(signal.SIGINT) is ctrl_c


@pytest.mark.parametrize(
    "arguments", [{"steps_per_epoch": 0}, {"save_freq": 0}, {"save_freq": "batch"}, {"keep": 0}]
)
def test_arguments_out_of_range(tmp_path, arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}` .*Received: .*{value!r}"):
        TrainingCheckpoint(tmp_path, **{"steps_per_epoch": STEPS, **arguments})
