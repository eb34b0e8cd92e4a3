"""The state of a training in a folder: written whole, found again, checked and read."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_luong.folders import whole_folder
from keras_luong.locks import locked_folder
from keras_luong.paths import RemotePath, remove_tree
from keras_luong.stored_arrays import ArrayArchive, Shape, array_archive, check_finite
from keras_luong.stored_json import (
    anything,
    flag,
    list_of,
    mapping_of,
    read_json,
    record,
    text,
    whole,
)
from keras_luong.stored_parts import check_sums, local_parts, write_sums
from keras_luong.training.replicas import is_first_process, strategy_scope

_STATE_FILE = "state.npz"
_NOTE_FILE = "position.json"
_PREFIX = "checkpoint-"
_NAME = re.compile(f"{_PREFIX}([0-9]+)-step-([0-9]+)")
_NOTE = record(
    {
        "step": whole(),
        "epoch": whole(),
        "steps_per_epoch": whole(1),
        "settings": mapping_of(anything),
        "stopped": flag,
        "callbacks": list_of(record({"class": text(), "attributes": mapping_of(anything)})),
        "state": list_of(text()),
    }
)

AnyPath = Path | RemotePath


def complete_checkpoints(directory: AnyPath) -> list[AnyPath]:
    """The checkpoints in a directory, the newest last."""
    return [folder for folder in _checkpoints(directory) if _is_complete(folder)]


def _checkpoints(directory: AnyPath) -> list[AnyPath]:
    found = directory.glob(f"{_PREFIX}*-step-*")
    return sorted((one for one in found if _NAME.fullmatch(one.name)), key=_number)


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
        note: What else there is to keep, as `Checkpoint.note` has it: what `json` writes, and
            arrays.
    """
    values = [_numpy(variable.value) for variable in _variables(model)]
    note = {**note, "state": _describe(model)}
    written = json.dumps(note, indent=1, default=_ArraysApart(values))
    older = _checkpoints(directory)
    # The number, not the step, says which is newest: a training begun anew in this directory
    # starts at step 0 again.
    number = _number(older[-1]) + 1 if older else 1
    with whole_folder(
        directory / f"{_PREFIX}{number:06d}-step-{note['step']}", last=_NOTE_FILE
    ) as folder:
        np.savez(folder / _STATE_FILE, *values)
        (folder / _NOTE_FILE).write_text(written, encoding="utf-8")
        write_sums(folder)


class Checkpoint(NamedTuple):
    """A checkpoint that is open.

    Attributes:
        folder: Where it stands.
        note: The `step` of the training and its `epoch`, `steps_per_epoch`, `settings`, whether it
            was `stopped`, what its `callbacks` remember, and what `state` the arrays are.
        arrays: All numbers.
    """

    folder: AnyPath
    note: dict[str, Any]
    arrays: ArrayArchive

    def values(self, model: keras.Model) -> Iterator[tuple[keras.Variable, np.ndarray]]:
        """Every variable of a training, with the value that is stored for it.

        Raises:
            ValueError: If the checkpoint is of another model or another optimizer, and for values
                that are no numbers.
        """
        variables = _variables(model)
        _check_same(self.folder, self.note["state"], _describe(model))
        for index, variable in enumerate(variables):
            value = self.arrays.read(f"arr_{index}", _kinds(variable), tuple(variable.shape))
            # What is not trained may be a bound that nothing has reached yet.
            check_finite(
                f"{str(self.folder)!r} cannot be read: `{variable.path}`",
                value,
                may_be_infinite=not variable.trainable,
            )
            yield variable, value

    def restore(self, model: keras.Model) -> None:
        """Puts all values into a model: those of a faulty checkpoint none."""
        for _ in self.values(model):
            pass
        for variable, value in self.values(model):
            variable.assign(value)


@contextlib.contextmanager
def opened_checkpoint(folder: AnyPath, check_hashes: bool) -> Iterator[Checkpoint]:
    """Opens a checkpoint.

    Args:
        folder: One of `complete_checkpoints`.
        check_hashes: Whether its files are read through first, and compared with its `SHA256SUMS`.

    Raises:
        ValueError: If it is not what `write_checkpoint` wrote: the message names file and fault.
    """
    with local_parts(folder, (_STATE_FILE, _NOTE_FILE)) as parts:
        if check_hashes:
            check_sums(folder, parts)
        note = read_json(parts[_NOTE_FILE], _NOTE)  # the bytes that have been compared
        _check_step(folder, note)
        count = max(0, len(note["state"]) - 1)
        apart = {*_references([note["settings"], note["callbacks"]], least=count)}
        names = [f"arr_{index}" for index in (*range(count), *apart)]
        with array_archive(parts[_STATE_FILE], names) as arrays:
            whole_again = {
                "settings": _ArraysApart.put_back(note["settings"], arrays, ()),
                "callbacks": _ArraysApart.put_back(note["callbacks"], arrays),
            }
            yield Checkpoint(folder, note | whole_again, arrays)


def _check_step(folder: AnyPath, note: dict[str, Any]) -> None:
    match = _NAME.fullmatch(folder.name)
    named = int(match[2]) if match else None
    if note["step"] != named or note["epoch"] != note["step"] // note["steps_per_epoch"]:
        facts = {name: note[name] for name in ("step", "epoch", "steps_per_epoch")}
        raise ValueError(
            f"{str(folder / _NOTE_FILE)!r} cannot be read: `step` must be that of the folder's "
            f"name, and within its `epoch`. Received: {facts}"
        )


def _kinds(variable: keras.Variable) -> str:
    """NumPy's kinds for a variable's numbers. Torch stores unsigned integers as signed ones."""
    if keras.backend.is_float_dtype(variable.dtype):
        return "f"
    return "b" if variable.dtype == "bool" else "iu"


def _references(value: Any, least: int) -> Iterator[int]:
    """The places of the arrays that `_ArraysApart` put apart."""
    if _ArraysApart.is_reference(value):
        yield whole(least)("array", value["array"])
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _references(one, least)


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
    return int(folder.name.removeprefix(_PREFIX).partition("-")[0])


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
    def is_reference(value: Any) -> bool:
        """Whether a value stands for an array."""
        return isinstance(value, dict) and value.keys() == {"array"}

    @classmethod
    def put_back(cls, value: Any, arrays: ArrayArchive, shape: Shape | None = None) -> Any:
        """A value with the arrays, of a shape if one is given, in their places."""
        if cls.is_reference(value):
            return arrays.read(f"arr_{value['array']}", "biuf", shape)[()]
        if isinstance(value, dict):
            return {name: cls.put_back(one, arrays, shape) for name, one in value.items()}
        is_list = isinstance(value, list)
        return [cls.put_back(one, arrays, shape) for one in value] if is_list else value
