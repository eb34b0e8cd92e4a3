"""What a training was run with, and what it came to, in TensorBoard's table of runs."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import keras

from keras_luong.paths import PathLike, path_of

Value = str | bool | int | float


class HyperParameters(keras.callbacks.Callback):
    """Shows a training in TensorBoard's tab "HParams": a row of settings and results.

    The settings are written when the training begins. When it ends, what the logs of its last epoch
    hold is written as its results, under `final/loss`, `final/val_loss` and so on. Place it behind
    the callbacks that add to the logs. With the logs of several trainings in one folder,
    `tensorboard --logdir` of that folder compares them.

    Args:
        log_dir: Directory of the TensorBoard logs; the values go to `hyper_parameters` in it.
        values: The settings by their names: strings, booleans and numbers.

    Raises:
        TypeError: For a value that is something else.

    Example:

    >>> import os
    >>> import tempfile
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as log_dir:
    ...     row = HyperParameters(log_dir, {"units": 1, "optimizer": "sgd"})
    ...     history = model.fit(np.ones((2, 3)), np.ones((2, 1)), callbacks=[row], verbose=0)
    ...     print(os.listdir(log_dir))
    ['hyper_parameters']
    """

    def __init__(self, log_dir: PathLike, values: Mapping[str, Value]) -> None:
        super().__init__()
        self.log_dir = path_of(log_dir)
        self.values = {name: _plain(name, value) for name, value in values.items()}
        self._epoch = 0
        self._results: dict[str, Any] = {}
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the settings."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        self._results = {}
        # A folder of their own, which TensorBoard counts as the run of both settings and results:
        # it would not find those of other folders if it were started in this one.
        self._writer = tf.summary.create_file_writer(str(self.log_dir / "hyper_parameters"))
        with self._writer.as_default(step=0):
            api.hparams(self.values)
        self._writer.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes what would be the results if this were the last epoch."""
        self._epoch, self._results = epoch, dict(logs or {})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the results, and closes the file."""
        import tensorflow as tf

        with self._writer.as_default():
            for name, value in self._results.items():
                tf.summary.scalar(f"final/{name}", value, step=self._epoch)
        self._writer.close()


def _plain(name: str, value: Any) -> Value:
    """A value as TensorBoard takes it, which knows no numbers of NumPy."""
    if isinstance(value, str | bool):
        return value
    if not isinstance(value, Real):
        raise TypeError(
            "`values` must be strings, booleans and numbers. Received: "
            f"{name}={value!r} of type {type(value).__name__}"
        )
    return int(value) if isinstance(value, Integral) else float(value)
