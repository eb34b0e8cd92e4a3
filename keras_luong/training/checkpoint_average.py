"""The mean of the weights of several checkpoints."""

import keras
import numpy as np

from keras_luong.checked_numbers import count_of
from keras_luong.layers.arguments import checked_flag
from keras_luong.paths import PathLike, path_of
from keras_luong.training.checkpoint_files import complete_checkpoints, opened_checkpoint


def average_checkpoints(
    model: keras.Model, directory: PathLike, count: int = 5, *, check_hashes: bool = True
) -> None:
    """Puts the mean of the newest checkpoints' weights into a model.

    Weights that are no floats, the states of random generators and those of the optimizer become
    those of the newest checkpoint. `TrainingCheckpoint(keep=count)`, or
    `Translator.fit(checkpoint_keep=count)`, keeps as many: one an epoch, and those of
    interruptions. They hold the weights themselves, also where the optimizer keeps averages.

    Args:
        model: The model that was trained, built, and compiled with the same optimizer.
        directory: That of the `TrainingCheckpoint`.
        count: How many checkpoints.
        check_hashes: As in `TrainingCheckpoint`.

    Raises:
        ValueError: If there are fewer checkpoints, or if they are of another model or optimizer or
            not what was written there.

    Example:

    >>> import tempfile
    >>> from keras_luong.training import TrainingCheckpoint
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint = TrainingCheckpoint(directory, steps_per_epoch=1, keep=2)
    ...     batch = np.ones((2, 3)), np.ones((2, 1))
    ...     history = model.fit(
    ...         *batch, epochs=3, steps_per_epoch=1, callbacks=[checkpoint], verbose=0
    ...     )
    ...     average_checkpoints(model, directory, count=2)

    Reference:
        [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 6.1.
    """
    count = count_of("count", count)
    check_hashes = checked_flag("check_hashes", check_hashes)
    folders = complete_checkpoints(path_of(directory))[-count:]
    if len(folders) < count:
        raise ValueError(
            f"There must be at least {count} checkpoints in {str(directory)!r}: train with "
            f"keep={count}. Received: {len(folders)} checkpoints"
        )
    weights = {id(one) for one in model.weights if keras.backend.is_float_dtype(one.dtype)}
    # A sum of many 16-bit or 32-bit numbers would lose what they differ by.
    sums: dict[int, np.ndarray] = {}
    for folder in folders:
        with opened_checkpoint(folder, check_hashes) as checkpoint:
            for variable, value in checkpoint.values(model):
                if id(variable) in weights:
                    sums[id(variable)] = sums.get(id(variable), 0.0) + value.astype("float64")
    with opened_checkpoint(folders[-1], check_hashes=False) as checkpoint:  # they have just been
        for variable, value in checkpoint.values(model):
            mean = sums.get(id(variable))
            variable.assign(value if mean is None else mean / count)
