"""Which labels a compiled loss allows, and whether it takes logits."""

import inspect
from typing import Any

import keras

from keras_luong.functional import IdRange


def label_ids(loss: Any, vocabulary_size: int) -> IdRange:
    """The ids that labels may be; all of them, for a loss that does not say that they are ids.

    Args:
        loss: What a model was compiled with, for its logits.
        vocabulary_size: How many ids the logits are of.
    """
    loss = _found(loss)
    if hasattr(loss, "padding_id"):
        return IdRange("y", vocabulary_size, loss.padding_id)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return IdRange("y", vocabulary_size, loss.ignore_class)
    is_sparse = loss is keras.losses.sparse_categorical_crossentropy
    return IdRange("y", vocabulary_size if is_sparse else None)


def check_takes_logits(loss: Any) -> None:
    """Raises for a loss that would read logits as probabilities.

    Raises:
        ValueError: For one that has an option `from_logits`, such as a crossentropy of Keras, where
            that is not set.
    """
    if _reads_probabilities(_found(loss)):
        raise ValueError(
            "The model returns logits, which the loss must be told: take `MaskedCrossentropy()`, "
            f"or a loss of Keras with `from_logits=True`. Received: loss={loss!r}"
        )


def _found(loss: Any) -> Any:
    return keras.losses.get(loss) if isinstance(loss, str) else loss


def _reads_probabilities(loss: Any) -> bool:
    if hasattr(loss, "from_logits"):
        return not loss.from_logits
    option = inspect.signature(loss).parameters.get("from_logits") if callable(loss) else None
    return option is not None and not option.default
