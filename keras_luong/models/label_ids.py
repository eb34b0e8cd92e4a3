"""What a compiled loss makes of labels and logits, as far as it can be seen."""

from typing import Any

import keras

from keras_luong.functional import IdRange

_SPARSE = "sparse_categorical_crossentropy"
# Without arguments, they take probabilities.
_OF_PROBABILITIES = (_SPARSE, "categorical_crossentropy", "binary_crossentropy")


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
    return IdRange("y", vocabulary_size if _name(loss) == _SPARSE else None)


def check_takes_logits(loss: Any) -> None:
    """Raises for a loss that would read logits as probabilities.

    Raises:
        ValueError: For a crossentropy of Keras without `from_logits=True`.
    """
    found = _found(loss)
    if not getattr(found, "from_logits", _name(found) not in _OF_PROBABILITIES):
        raise ValueError(
            "The model returns logits, which the loss must be told: take `MaskedCrossentropy()`, "
            "or a loss of Keras with `from_logits=True`. Received: loss="
            f"{loss!r}"
        )


def _found(loss: Any) -> Any:
    return keras.losses.get(loss) if isinstance(loss, str) else loss


def _name(loss: Any) -> str | None:
    """The name of a function of Keras."""
    name = getattr(loss, "__name__", None)
    return name if getattr(keras.losses, name or "", None) is loss else None
