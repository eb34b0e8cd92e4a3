"""Stop a training at any step and go on later as if nothing had happened."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import keras

from keras_luong.checked_numbers import count_of
from keras_luong.layers.arguments import checked_flag
from keras_luong.paths import PathLike, path_of
from keras_luong.training.callback_memory import check_memory, memory_of, remind
from keras_luong.training.checkpoint_files import (
    AnyPath,
    complete_checkpoints,
    locked_checkpoints,
    opened_checkpoint,
    sweep,
    write_checkpoint,
)
from keras_luong.training.interruption import Interruption
from keras_luong.training.replicas import is_first_process

# What `stop_training` is set to at the end of a shortened epoch: true like `True`, yet told apart
# from the `True` of a callback that means it, so that only our own wish is taken back.
_END_OF_SHORTENED_EPOCH = "end of the epoch that an interruption cut in two"


class Position(NamedTuple):
    """A place in a training.

    Attributes:
        epoch: Epochs finished; what `fit` takes as `initial_epoch`.
        step_in_epoch: Batches of the running epoch that are done.
        global_step: Batches done since the start of the training.
        stopped: Whether a callback, such as `EarlyStopping`, ended the training here.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    stopped: bool = False


def _checked_freq(save_freq: Any) -> int | str:
    if isinstance(save_freq, str) and save_freq != "epoch":
        raise ValueError(
            '`save_freq` must be "epoch" or a number of batches, at least 1. '
            f"Received: {save_freq!r}"
        )
    return save_freq if save_freq == "epoch" else count_of("save_freq", save_freq)


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves the whole state of a training, and resumes it at the same batch.

    A checkpoint holds all variables of the model, the states of its random generators (dropout)
    and all variables of the optimizer (learning rate, step count, moments, averages). With a
    stream of batches that can be started at any step, a training that was interrupted goes on
    where it stopped, with the batches it would have seen, and ends its epochs, validates and calls
    other callbacks at the steps where it would have done so undisturbed.

    A checkpoint is a folder that is written under another name and renamed when it is complete and
    on the disk: a crash leaves the one before. On Ctrl-C (SIGINT) the running batch is finished, a
    checkpoint is written, and `KeyboardInterrupt` is raised; a second Ctrl-C raises at once. A
    Ctrl-C during a validation lets it finish first. SIGTERM, by which clusters and containers are
    ended, does the same, and raises `SystemExit(143)`.

    While `fit` runs no other process can: its own raises `BlockingIOError`, which names this one.
    A process that is killed holds up nobody.

    Of other callbacks those in `callbacks` go on too: `EarlyStopping`, `ReduceLROnPlateau`,
    `ModelCheckpoint` and `TextScores`, their subclasses, and any that names the attributes to keep
    in a tuple `remembered_attributes` (numbers, strings, arrays, and lists and dictionaries of
    them). A training that one of them ended is over when it is resumed: `Position.stopped`.
    `SwapEMAWeights(swap_on_epoch=True)` must be among them: its averages leave the model again
    before an epoch's end is saved.

    What does not survive an interruption: the training loss and metrics that Keras reports for an
    epoch resumed in its middle are taken over the rest of it (those of the validation are not
    affected), and `History` begins anew.

    Place this callback last, so that those before it have seen an epoch's end when it is saved.

    Where several processes train together (JAX under `keras.distribution`), all of them must read
    `directory`, the first one writes there, and all of them begin again when one has died.

    Args:
        directory: Folder for the checkpoints of one training; made when it is missing. It may have
            a scheme, as in `gs://bucket/checkpoints`.
        steps_per_epoch: Batches an epoch, the same as given to `fit`.
        save_freq: `"epoch"`, or a number of batches. A checkpoint that would fall on the last batch
            of an epoch is written when the epoch, with its validation, is over. The end of the
            training is always saved.
        keep: How many of the newest checkpoints stay; `restore` reads the newest.
        callbacks: The other callbacks of the same `fit`, whose memory belongs to the training.
        settings: What else must be the same when the training is resumed, by name: numbers, strings
            and `None`, such as the seed of the batches.
        check_hashes: Whether `restore` reads a checkpoint through first and compares it with the
            SHA-256 that its `SHA256SUMS` has of every file. 10 GB take 8 s of a core (AMD EPYC,
            2026-11-29), and the same when they are written. Names, sizes and NaN are checked
            without it too.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> def batches(start_step):  # endless, and can begin anywhere
    ...     step = start_step
    ...     while True:
    ...         yield np.full((2, 3), step % 7, "float32"), np.ones((2, 1), "float32")
    ...         step += 1
    >>> def train(directory, epochs):
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     checkpoint = TrainingCheckpoint(directory, steps_per_epoch=4)
    ...     position = checkpoint.restore(model)
    ...     model.fit(
    ...         batches(position.global_step),
    ...         steps_per_epoch=4,
    ...         initial_epoch=position.epoch,
    ...         epochs=epochs,
    ...         callbacks=[checkpoint],
    ...         verbose=0,
    ...     )
    ...     return position.global_step
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     train(directory, epochs=1), train(directory, epochs=2)
    (0, 4)
    """

    def __init__(
        self,
        directory: PathLike,
        *,
        steps_per_epoch: int,
        save_freq: int | str = "epoch",
        keep: int = 1,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        settings: Mapping[str, Any] | None = None,
        check_hashes: bool = True,
    ) -> None:
        super().__init__()
        self.check_hashes = checked_flag("check_hashes", check_hashes)
        self.directory = path_of(directory)
        self.steps_per_epoch = count_of("steps_per_epoch", steps_per_epoch)
        self.save_freq = _checked_freq(save_freq)
        self.keep = count_of("keep", keep)
        self.callbacks = tuple(callbacks)
        self.settings = dict(settings or {})
        self._memory: list[dict[str, Any]] = []
        self._restored: Position | None = None
        self._epoch = 0
        self._step_in_epoch = 0
        self._first_step = 0
        self._saved_step: int | None = None
        self._interruption = Interruption()
        self._lock = contextlib.ExitStack()

    def restore(self, model: keras.Model) -> Position:
        """Puts the newest checkpoint into a model.

        Args:
            model: A model of the same architecture, built, and compiled with the same optimizer.

        Returns:
            The position to go on from: start the stream of batches at `global_step`, and call `fit`
            with `initial_epoch=epoch`, and with `epochs=epoch` too if it was `stopped`. The start
            of a training where there is no checkpoint.

        Raises:
            ValueError: If the checkpoint is of another model or optimizer, was written with other
                `settings` or another `steps_per_epoch`, is not what was written there, or holds
                NaN. The model is as it was.
        """
        self._restored = Position()
        folders = complete_checkpoints(self.directory)
        if folders:
            self._restored = self._load(folders[-1], model)
        return self._restored

    def _load(self, folder: AnyPath, model: keras.Model) -> Position:
        with opened_checkpoint(folder, self.check_hashes) as checkpoint:
            note = checkpoint.note
            self._check_settings(folder, note)
            check_memory(self.callbacks, note["callbacks"], str(folder))
            checkpoint.restore(model)
        self._memory = note["callbacks"]
        epoch, step_in_epoch = divmod(note["step"], self.steps_per_epoch)
        return Position(epoch, step_in_epoch, note["step"], note["stopped"])

    def _check_settings(self, folder: AnyPath, note: dict[str, Any]) -> None:
        saved = {**note["settings"], "steps_per_epoch": note["steps_per_epoch"]}
        given = {**self.settings, "steps_per_epoch": self.steps_per_epoch}
        other = sorted(name for name in saved.keys() & given if saved[name] != given[name])
        if other:
            there, here = (
                ", ".join(f"{name}={values[name]!r}" for name in other) for values in (saved, given)
            )
            raise ValueError(
                f"The checkpoint {folder} was written with {there} and can only be resumed with "
                f"that. Name another directory for another training. Received: {here}"
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks what `fit` was given, reminds callbacks, and begins to listen for signals.

        Raises:
            BlockingIOError: If another process trains in this directory.
            ValueError: If `fit` or `compile` was given something else than this callback.
        """
        steps = (self.params or {}).get("steps")
        if steps != self.steps_per_epoch:
            raise ValueError(
                "`fit` must be called with the `steps_per_epoch` of this callback, "
                f"{self.steps_per_epoch}. Received: steps_per_epoch={steps}"
            )
        model = self.model
        if model.steps_per_execution != 1:
            raise ValueError(
                "A checkpoint can only be written between batches: compile the model with "
                f"steps_per_execution=1. Received: steps_per_execution={model.steps_per_execution}"
            )
        self._release()
        self._lock.enter_context(locked_checkpoints(self.directory))
        self._saved_step = None
        # Those before this one have just forgotten what they knew.
        remind(self.callbacks, self._memory)
        self._memory = []
        self._interruption.listen(model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Finds the place in the epoch; obeys a signal that came between two epochs."""
        restored, self._restored = self._restored, None
        if restored is not None and restored.epoch != epoch:
            self._release()
            raise ValueError(
                f"The training was restored to epoch {restored.epoch}: call `fit` with "
                f"initial_epoch={restored.epoch}. Received: initial_epoch={epoch}"
            )
        self._epoch = epoch
        self._first_step = self._step_in_epoch = restored.step_in_epoch if restored else 0
        if self._interruption.wanted:
            self._save_and_interrupt(self._interruption.wanted)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves when it is time to; ends a shortened epoch; obeys a signal."""
        self._step_in_epoch += 1
        if self._step_in_epoch == self.steps_per_epoch:
            # The epoch is not over before its validation: `on_epoch_end` saves.
            if self._first_step and not self.model.stop_training:
                self.model.stop_training = _END_OF_SHORTENED_EPOCH
        elif self._interruption.wanted:
            self._save_and_interrupt(self._interruption.wanted)
        elif self._is_due():
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Lets the training go on after a shortened epoch; saves when it is time to."""
        if self.model.stop_training is _END_OF_SHORTENED_EPOCH:
            self.model.stop_training = False
        stopping = bool(self.model.stop_training)
        if self._step_in_epoch < self.steps_per_epoch:
            if stopping:  # another callback gave up within the epoch: nothing worth keeping
                return
            self._release()
            raise ValueError(
                f"The dataset ended after {self._step_in_epoch} of {self.steps_per_epoch} batches "
                f"of epoch {epoch}. It must be endless for a training to be resumed in its middle."
            )
        self._epoch, self._step_in_epoch = epoch + 1, 0
        for callback in self.callbacks:
            if isinstance(callback, keras.callbacks.SwapEMAWeights):
                callback.on_epoch_begin(self._epoch)  # The averages leave the model.
        last = stopping or self._epoch == self.params["epochs"]
        if last or self.save_freq == "epoch" or self._interruption.wanted or self._is_due():
            self._save(stopping)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the signals back; obeys one that came after the last batch."""
        wanted = self._interruption.wanted
        self._release()
        if wanted:
            # Not saved once more: the optimizer may have put its averages in the weights' place.
            self._interrupt(wanted)

    @property
    def _global_step(self) -> int:
        return self._epoch * self.steps_per_epoch + self._step_in_epoch

    def _is_due(self) -> bool:
        return isinstance(self.save_freq, int) and self._global_step % self.save_freq == 0

    def _release(self) -> None:
        self._interruption.stop_listening()
        self._lock.close()

    def _save_and_interrupt(self, wanted: BaseException) -> None:
        try:
            if self._saved_step != self._global_step:
                self._save()
        finally:
            self._release()
        self._interrupt(wanted)

    def _interrupt(self, wanted: BaseException) -> NoReturn:
        if self._saved_step is not None:
            epoch, step = divmod(self._saved_step, self.steps_per_epoch)
            print(
                f"\nInterrupted. The training can be resumed after step {self._saved_step} (epoch "
                f"{epoch + 1}, batch {step} of {self.steps_per_epoch}): "
                f"{complete_checkpoints(self.directory)[-1]}",
                flush=True,
            )
        raise wanted

    def _save(self, stopped: bool = False) -> None:
        if not is_first_process():
            return
        note = {
            "step": self._global_step,
            "epoch": self._epoch,
            "steps_per_epoch": self.steps_per_epoch,
            "settings": self.settings,
            "stopped": stopped,
            "callbacks": memory_of(self.callbacks),
        }
        write_checkpoint(self.directory, self.model, note)
        self._saved_step = self._global_step
        sweep(self.directory, self.keep)
