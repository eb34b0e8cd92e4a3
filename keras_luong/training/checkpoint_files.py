"""The state of a training in a folder: written whole, found again, checked and read."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.folders import whole_folder
from keras_luong.locks import locked_folder
from keras_luong.paths import RemotePath, local_copy, remove_tree
from keras_luong.training.replicas import is_first_process, strategy_scope

_STATE_FILE = "state.npz"
_NOTE_FILE = "position.json"
_PREFIX = "checkpoint-"

AnyPath = Path | RemotePath


def complete_checkpoints(directory: AnyPath) -> list[AnyPath]:
    """The checkpoints in a directory, the newest last."""
    return [folder for folder in _checkpoints(directory) if _is_complete(folder)]


def _checkpoints(directory: AnyPath) -> list[AnyPath]:
    return sorted(directory.glob(f"{_PREFIX}*-step-*"), key=_number)


def _is_complete(folder: AnyPath) -> bool:
    return (folder / _NOTE_FILE).exists()  # the last that is written, the first that is removed


def locked_checkpoints(directory: AnyPath) -> contextlib.AbstractContextManager[None]:
    """Keeps other trainings out of a directory.

    Of processes that train together the first does it, for it writes.

    Raises:
        BlockingIOError: If another process trains there.
    """
    return locked_folder(directory) if is_first_process() else contextlib.nullcontext()


def write_checkpoint(directory: AnyPath, model: keras.Model, note: dict[str, Any]) -> None:
    """Writes the state beside the older checkpoints, under another name until it is complete.

    Args:
        directory: Folder for the checkpoints of one training; made when it is missing.
        model: Compiled and built.
        note: What else there is to keep, the number of the `"step"` in it: what `json` writes, and
            arrays.
    """
    values = [_numpy(variable.value) for variable in _variables(model)]
    note = {**note, "state": _describe(model)}
    text = json.dumps(note, indent=1, default=_ArraysApart(values))
    older = _checkpoints(directory)
    # The number, not the step, says which is newest: a training begun anew in this directory
    # starts at step 0 again.
    number = _number(older[-1]) + 1 if older else 1
    with whole_folder(
        directory / f"{_PREFIX}{number:06d}-step-{note['step']}", last=_NOTE_FILE
    ) as folder:
        np.savez(folder / _STATE_FILE, *values)
        (folder / _NOTE_FILE).write_text(text, encoding="utf-8")


def read_note(folder: AnyPath) -> dict[str, Any]:
    """The note of a checkpoint."""
    text = (folder / _NOTE_FILE).read_text(encoding="utf-8")
    with _state(folder) as state:
        return json.loads(text, object_hook=_ArraysApart.reader(state))


def stored_state(
    folder: AnyPath, model: keras.Model
) -> Iterator[tuple[keras.Variable, np.ndarray]]:
    """Every variable of a training, with the value that a checkpoint has for it.

    Raises:
        ValueError: If the checkpoint is of another model or another optimizer.
    """
    variables = _variables(model)
    _check_same(folder, read_note(folder)["state"], _describe(model))
    with _state(folder) as state:
        for index, variable in enumerate(variables):
            yield variable, state[f"arr_{index}"]


@contextlib.contextmanager
def _state(folder: AnyPath) -> Iterator[Any]:
    """The arrays of a checkpoint."""
    with local_copy(folder / _STATE_FILE) as file, np.load(file) as state:
        yield state


def sweep(directory: AnyPath, keep: int) -> None:
    """Removes older checkpoints, and what a process that died left half written."""
    kept = complete_checkpoints(directory)[-keep:]
    for folder in _checkpoints(directory):
        if folder not in kept:
            _discard(folder)
    for leftover in directory.glob(f".{_PREFIX}*.unfinished"):
        remove_tree(leftover)


def _discard(folder: AnyPath) -> None:
    """Removes a checkpoint; one that is half gone does not look like one."""
    if _is_complete(folder):
        (folder / _NOTE_FILE).unlink()
    remove_tree(folder)


def _number(folder: AnyPath) -> int:
    return int(folder.name.removeprefix(_PREFIX).split("-")[0])


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that a training step reads and changes.

    `model.save_weights` leaves out the states of random generators; `model.variables` has them.
    """
    if not model.built or getattr(model, "optimizer", None) is None:
        raise ValueError(
            "The model must be built, and compiled with an optimizer, before its training state "
            f"is restored or saved. Received: built={model.built}, "
            f"optimizer={getattr(model, 'optimizer', None)}"
        )
    if not model.optimizer.built:
        with strategy_scope(model):
            model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _describe(model: keras.Model) -> list[str]:
    """What tells one training state from another: the optimizer's class, then every variable.

    Only the last part of a variable's name is used, and the optimizer's not at all: Keras numbers
    layers by how many were made before them.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [
        f"optimizer {type(optimizer).__name__}",
        *(f"{v.name} {tuple(v.shape)} {v.dtype}" for v in model.variables),
        *(f"optimizer variable {tuple(v.shape)} {v.dtype}" for v in model.optimizer.variables),
    ]


def _check_same(folder: AnyPath, saved: list[str], present: list[str]) -> None:
    for there, here in itertools.zip_longest(saved, present, fillvalue="nothing"):
        if there != here:
            raise ValueError(
                f"The checkpoint {folder} was written by another model or optimizer: where it has "
                f"`{there}`, the model to restore has `{here}`"
            )


def _numpy(value: Any) -> np.ndarray:
    array = ops.convert_to_numpy(value)
    # NumPy's files do not know bfloat16, which is exact in float32.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


class _ArraysApart:
    """Has `json` write arrays as their place in a list, to the end of which it puts them."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays

    def __call__(self, value: Any) -> Any:
        self.arrays.append(_numpy(value))
        return {"array": len(self.arrays) - 1}

    @staticmethod
    def reader(state: Any) -> Callable[[dict[str, Any]], Any]:
        """What gives `json` the arrays back, from a file of that list."""
        return lambda one: state[f"arr_{one['array']}"][()] if one.keys() == {"array"} else one
