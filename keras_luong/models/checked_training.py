"""Ids that no vocabulary has, and losses that are not a number, while a model is trained."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.functional import IdRange
from keras_luong.models.label_ids import check_takes_logits, label_ids

Tensor = Any


class CheckedTraining:
    """`fit`, `evaluate`, `predict`, their likes for one batch, and `compute_loss`, with checks.

    For a functional model that knows which ids it reads, and whose first output is the logits.

    Backends differ on an id beyond an embedding: some raise, some read another row, zeros or NaN.
    So arrays are looked at before the first step; in the compiled step, where nothing can be
    raised under XLA or on JAX, an id outside makes the loss NaN; and a loss of NaN is raised when
    the epoch ends. A step waits for nothing.
    """

    @property
    def id_ranges(self) -> tuple[IdRange, IdRange]:
        """The ids of source and target that the model reads."""
        raise NotImplementedError

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains as `keras.Model.fit` does, and raises where that would go on in vain.

        Raises:
            ValueError: For arrays with ids that the model does not have, at once; and for a loss
                that is NaN, at the end of the epoch.
        """
        self._check_arrays(x, y)
        if isinstance(validation_data, list | tuple):
            self._check_arrays(*validation_data[:2])
        watch = _NaNLoss(self, x)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(watch)
        else:
            # Before those that save: what it raises on is not worth keeping.
            callbacks = [watch, *keras.tree.flatten(callbacks or [])]
        validation = validation_split, validation_data
        return super().fit(  # type: ignore[misc]
            x, y, batch_size, epochs, verbose, callbacks, *validation, *args, **kwargs
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Evaluates as `keras.Model.evaluate` does.

        Raises:
            ValueError: As `fit`.
        """
        self._check_arrays(x, y)
        results = super().evaluate(  # type: ignore[misc]
            x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
        )
        self._check_number("evaluation", results, x, steps)
        return results

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts as `keras.Model.predict` does.

        Raises:
            ValueError: For arrays with ids that the model does not have.
        """
        self._check_arrays(x, None)
        return super().predict(x, *args, **kwargs)  # type: ignore[misc]

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains on a batch as `keras.Model.train_on_batch` does.

        Raises:
            ValueError: For arrays with ids that the model does not have, and for a loss of NaN.
        """
        self._check_arrays(x, y)
        results = super().train_on_batch(x, y, *args, **kwargs)  # type: ignore[misc]
        self._check_number("batch", results, x)
        return results

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates a batch as `keras.Model.test_on_batch` does.

        Raises:
            ValueError: As `train_on_batch`.
        """
        self._check_arrays(x, y)
        results = super().test_on_batch(x, y, *args, **kwargs)  # type: ignore[misc]
        self._check_number("batch", results, x)
        return results

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts a batch as `keras.Model.predict_on_batch` does.

        Raises:
            ValueError: As `predict`.
        """
        self._check_arrays(x, None)
        return super().predict_on_batch(x)  # type: ignore[misc]

    def compute_loss(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of a batch; NaN if it holds ids that the model does not have.

        Raises:
            ValueError: For a compiled loss of probabilities: the model returns logits.
        """
        check_takes_logits(self._loss_of_logits)
        loss = super().compute_loss(x, y, *args, **kwargs)  # type: ignore[misc]
        for ids, known in (*self._read(x), *self._read_labels(y)):
            loss = ops.where(known.holds(ids), loss, ops.full((), math.nan, loss.dtype))
        return loss

    def check_ids(self, inputs: Any) -> None:
        """Raises for ids of `(source, target)` that the model does not have, where known."""
        for ids, known in self._read(inputs):
            known.check(ids)

    def _read(self, inputs: Any) -> Iterator[tuple[Any, IdRange]]:
        """The ids that are read, each with what they may be."""
        if isinstance(inputs, dict):
            inputs = [inputs.get(one.name) for one in self.inputs]  # type: ignore[attr-defined]
        if isinstance(inputs, list | tuple) and len(inputs) == len(self.id_ranges):
            for ids, known in zip(inputs, self.id_ranges, strict=True):
                if ids is not None and known.size is not None:
                    yield ids, known

    def _read_labels(self, y: Any) -> Iterator[tuple[Any, IdRange]]:
        labels, known = self._of_logits(y), self._labels
        if labels is not None and known.size is not None:
            yield labels, known

    @property
    def _labels(self) -> IdRange:
        """The ids that labels may be."""
        (logits, *_) = self.outputs  # type: ignore[attr-defined]
        return label_ids(self._loss_of_logits, logits.shape[-1])

    @property
    def _loss_of_logits(self) -> Any:
        return self._of_logits(getattr(self, "loss", None))

    def _of_logits(self, by_output: Any) -> Any:
        """The first output's part of losses or labels, for a model with one output or several."""
        if isinstance(by_output, dict):
            return by_output.get(self.output_names[0])  # type: ignore[attr-defined]
        if isinstance(by_output, list | tuple):
            return by_output[0] if by_output else None
        return by_output

    def _check_arrays(self, x: Any, y: Any = None) -> None:
        for ids, known in (*self._read(x), *self._read_labels(y)):
            if hasattr(ids, "__array__"):  # of whatever library, tensors of tf.data on JAX too
                known.check(ids)

    def _check_number(self, name: str, results: Any, x: Any, steps: int | None = None) -> None:
        """Raises where the loss among results is NaN."""
        loss = results["loss"] if isinstance(results, dict) else np.ravel(results)[0]
        if math.isnan(loss):
            raise ValueError(f"The loss of the {name} is NaN. {self._likely_cause(x, steps)}")

    def _likely_cause(self, x: Any, steps: int | None) -> str:
        """Of a loss that is NaN; from the data, if it can be read once more."""
        batches = _again(x, steps)
        try:
            for batch in batches or ():
                inputs, labels, *_ = keras.utils.unpack_x_y_sample_weight(batch)
                self._check_arrays(inputs, labels)
        except ValueError as error:
            return f"Its data holds an id that the model does not have: {error}"
        exploded = (
            "gradients have exploded: take a lower learning rate, or an optimizer with "
            "`global_clipnorm`."
        )
        if batches is not None:
            return f"Its ids are those of the model, so probably {exploded}"
        allowed = "; ".join(str(one) for one in (*self.id_ranges, self._labels) if one.size)
        return (
            f"Either ids are outside of what the model has ({allowed}): "
            f"`compile(run_eagerly=True)` then names the first of them. Or {exploded}"
        )


class _NaNLoss(keras.callbacks.Callback):
    """Raises when an epoch ends whose loss is NaN. An infinite one may still be right."""

    def __init__(self, trained: CheckedTraining, x: Any) -> None:
        super().__init__()
        self._trained, self._x = trained, x

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if math.isnan((logs or {}).get("loss", 0.0)):
            cause = self._trained._likely_cause(self._x, (self.params or {}).get("steps"))
            raise ValueError(f"The loss of epoch {epoch + 1} is NaN. {cause}")


def _again(x: Any, steps: int | None) -> Iterator[Any] | None:
    """The batches of a dataset, but those of arrays, which have been looked at; else `None`."""
    if isinstance(x, keras.utils.PyDataset):
        return (x[index] for index in range(x.num_batches or steps or 0))
    if isinstance(x, list | tuple | dict) or hasattr(x, "__array__"):
        return iter(())
    # A generator is its own iterator, and used up.
    can_begin_anew = x is not None and iter(x) is not x
    return itertools.islice(iter(x), steps) if can_begin_anew else None
