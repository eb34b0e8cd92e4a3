"""Checkpoints that somebody else may have written, or a disk that lost a bit."""

import json
import shutil

import keras
import numpy as np
import pytest
from keras import ops

pytest.importorskip("tensorflow")

from keras_luong.stored_parts import write_sums
from keras_luong.training import Position, TrainingCheckpoint, average_checkpoints
from tests.hostile_files import (
    DEEP,
    compressed,
    edited,
    flipped,
    linked,
    npy,
    truncated,
    with_arrays,
    with_members,
)

STEPS = 2
SETTINGS = {"seed": np.int64(3), "alpha": None}
BATCH = np.ones((2, 3), "float32"), np.ones((2, 1), "float32")


def build():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="words")])
    model.compile("adam", "mse", run_eagerly=True)
    return model


def callbacks():
    return [keras.callbacks.EarlyStopping("loss", restore_best_weights=True)]


def restored(directory, model=None, **options):
    checkpoint = TrainingCheckpoint(
        directory, steps_per_epoch=STEPS, callbacks=callbacks(), settings=SETTINGS, **options
    )
    return checkpoint.restore(model or build())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with one checkpoint, at the end of an epoch."""
    directory, stopping = tmp_path_factory.mktemp("trained"), callbacks()
    checkpoint = TrainingCheckpoint(
        directory, steps_per_epoch=STEPS, callbacks=stopping, settings=SETTINGS
    )
    batches = (BATCH for _ in range(STEPS))
    build().fit(batches, steps_per_epoch=STEPS, verbose=0, callbacks=[*stopping, checkpoint])
    return directory


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the checkpoint."""
    shutil.copytree(trained, tmp_path / "work")
    (folder,) = (tmp_path / "work").iterdir()
    return folder


def note(change):
    return lambda folder: edited(folder / "position.json", change)


def attributes(**changes):
    return note(lambda found: found["callbacks"][0]["attributes"].update(changes))


def arrays(**changes):
    return lambda folder: with_arrays(folder / "state.npz", **changes)


def values(model):
    return [ops.convert_to_numpy(one) for one in (*model.variables, *model.optimizer.variables)]


NAN = np.array([[1], [np.nan], [2]], "float32")
# Each of them is seen without the hashes, of which whoever writes the files can write others.
ATTACKS = [
    (lambda folder: (folder / "position.json").write_text(DEEP), "position.json' .*50 levels"),
    (lambda folder: truncated(folder / "position.json"), "position.json' cannot be read"),
    (note(lambda found: [found]), "position.json' cannot be read: it must be an object"),
    (note(lambda found: found.pop("stopped") and None), "position.json' .*it must be an object"),
    (note(lambda found: found.pop("state") and None), "position.json' .*it must be an object"),
    (note(lambda found: found.update(step=10**9)), "position.json' .*`step` must be that of the"),
    (note(lambda found: found.update(step=10**9, epoch=10**9 // STEPS)), "`step` must be that of"),
    (note(lambda found: found.update(step=-2)), "position.json' .*`step` must be an integer"),
    (note(lambda found: found.update(step=2.0)), "position.json' .*`step` must be an integer"),
    (note(lambda found: found.update(step="2")), "position.json' .*`step` must be an integer"),
    (note(lambda found: found.update(epoch=0)), "position.json' .*within its `epoch`"),
    (note(lambda found: found.update(steps_per_epoch=0)), "`steps_per_epoch` must be an integer"),
    (note(lambda found: found.update(stopped=1)), "`stopped` must be true or false"),
    (note(lambda found: found.update(settings=[])), "`settings` must be an object"),
    (note(lambda found: found["settings"].update(alpha=4)), "was written with alpha=4"),
    (note(lambda found: found["settings"].update(alpha=float("nan"))), "with alpha=nan"),
    (note(lambda found: found.update(callbacks={})), "`callbacks` must be a list"),
    (note(lambda found: found.update(callbacks=[{"class": 1}])), r"`callbacks\[0\]` must be"),
    (note(lambda found: found.update(state=[])), "must hold 0 arrays|must hold . arrays"),
    (note(lambda found: found.update(state=["x"] * 4)), "state.npz' .*must hold"),
    (attributes(wait=-1), "`wait` of EarlyStopping must be what it remembers there"),
    (attributes(best_epoch=1.5), "`best_epoch` of EarlyStopping must be"),
    (attributes(best="x"), "`best` of EarlyStopping must be .*Received: 'x'"),
    (
        note(lambda found: found["callbacks"][0]["attributes"]["best_weights"].append(1)),
        "`best_weights` of EarlyStopping must be",
    ),
    (attributes(best={"array": 0}), "`array` must be an integer of at least"),
    (attributes(best={"array": 10**9}), "state.npz' .*missing: .*arr_1000000000"),
    (attributes(best={"array": "x"}), "`array` must be an integer"),
    (lambda folder: (folder / "state.npz").unlink(), "must hold a file 'state.npz'"),
    (lambda folder: truncated(folder / "state.npz"), "state.npz' .*File is not a zip file"),
    (lambda folder: compressed(folder / "state.npz"), "state.npz' .*must not be compressed"),
    (arrays(arr_0=None), r"state.npz' .*missing: \['arr_0.npy'\]"),
    (arrays(more=np.ones(1)), r"state.npz' .*unknown: \['more.npy'\]"),
    (arrays(arr_0=np.ones((4, 1), "float32")), r"state.npz' .*`arr_0`: .*\(3, 1\).*\(4, 1\)"),
    (arrays(arr_0=np.ones((3, 1), "int32")), "`arr_0`: its numbers must be floats"),
    (arrays(arr_0=NAN), "step-2' .*/kernel` must hold finite numbers. Received: 1 others of 3"),
    (arrays(arr_1=np.array([np.inf], "float32")), "/bias` must hold finite numbers"),
    (arrays(arr_5=np.array([[np.nan]] * 3, "float32")), "must hold no NaN. Received: 3 others"),
    (
        lambda folder: with_members(folder / "state.npz", arr_0__npy=npy((10**9, 9))),
        "state.npz' .*`arr_0`: .*shape",
    ),
    (
        lambda folder: with_members(folder / "state.npz", arr_0__npy=npy((3, 1))),
        "state.npz' .*`arr_0`: its header declares 12 bytes",
    ),
    (
        lambda folder: linked(folder / "state.npz", folder.parent / "elsewhere"),
        "state.npz' must be a file of its folder. It is a link",
    ),
]


@pytest.mark.parametrize(("attack", "message"), ATTACKS)
def test_one_error_names_file_and_fault_and_the_model_is_as_it_was(folder, attack, message):
    attack(folder)
    model = build()
    before = values(model)
    with pytest.raises(ValueError, match=message):
        restored(folder.parent, model, check_hashes=False)
    for here, there in zip(values(model), before, strict=False):  # the optimizer may be built now
        np.testing.assert_array_equal(here, there)


def test_what_is_whole_is_restored_with_hashes_and_without(folder):
    for check_hashes in (True, False):
        assert restored(folder.parent, check_hashes=check_hashes) == Position(1, 0, STEPS)


@pytest.mark.parametrize("name", ["state.npz", "position.json"])
def test_a_bit_that_changed_is_seen(folder, name):
    flipped(folder / name, {"state.npz": 200, "position.json": -3}[name])
    for read in (restored, lambda place: average_checkpoints(build(), place, 1)):
        with pytest.raises(ValueError, match=f"{name}' is not what was written there: its SHA-256"):
            read(folder.parent)


def test_hashes_are_needed_unless_they_are_not_asked_for(folder):
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="step-2' must hold a file 'SHA256SUMS'"):
        restored(folder.parent)
    average_checkpoints(build(), folder.parent, 1, check_hashes=False)
    assert restored(folder.parent, check_hashes=False).global_step == STEPS


def test_an_average_of_a_faulty_checkpoint_names_it(folder):
    arrays(arr_0=NAN)(folder)
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    with pytest.raises(ValueError, match="step-2' .*/kernel` must hold finite numbers"):
        average_checkpoints(build(), folder.parent, 1)


@pytest.mark.parametrize(
    "name", ["checkpoint-x-step-2", "checkpoint-²-step-2", "checkpoint-1-step-"]
)
def test_folders_of_other_names_are_no_checkpoints(folder, name):
    shutil.copytree(folder, folder.with_name(name))
    assert restored(folder.parent).global_step == STEPS
    assert json.loads((folder / "position.json").read_text())["step"] == STEPS
