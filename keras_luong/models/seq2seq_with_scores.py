"""`Seq2SeqWithScores`: a `Seq2Seq` that also returns where it looks."""

from collections.abc import Callable
from typing import Any

import keras

from keras_luong.functional import IdRange
from keras_luong.layers.freezing import freeze_parts, parts_as_configured
from keras_luong.models.checked_training import CheckedTraining
from keras_luong.models.made_of_layers import MadeOfLayers, check_options, check_positions

Tensor = Any


@keras.saving.register_keras_serializable(package="keras_luong")
class Seq2SeqWithScores(MadeOfLayers, CheckedTraining, keras.Model):
    """The layers of a `Seq2Seq` as a model that is trained on where it looks too.

    `Seq2Seq.with_attention_scores` makes it. It shares all weights with that model, and checks ids
    as it does.

    Args:
        seq2seq: A `Seq2Seq` without scheduled sampling.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Call arguments:
        inputs: `(source, target)`, int32 `(b, s)` and `(b, t)`.

    Output shape:
        A list of the logits `(b, t, vocabulary)` and the attention scores `(b, t, s)`.

    Raises:
        ValueError: For ids that the model does not have, as `Seq2Seq` does.

    Example:

    >>> from keras_luong import MaskedCrossentropy, luong_seq2seq
    >>> from keras_luong.training import GuidedAlignment
    >>> model = luong_seq2seq(50, 60, units=8).with_attention_scores()
    >>> model.compile("adam", [MaskedCrossentropy(), GuidedAlignment()])
    """

    def __init__(self, seq2seq: Any, *others: Any, **kwargs: Any) -> None:
        check_positions("Seq2SeqWithScores takes `seq2seq`", others)
        check_options("Seq2SeqWithScores", kwargs)
        outputs = seq2seq.forced_with_scores()
        super().__init__(inputs=seq2seq.inputs, outputs=outputs, **kwargs)
        # Behind a function, so that Keras counts and saves no layer twice.
        self._origin: Callable[[], Any] = lambda: seq2seq
        freeze_parts(self)

    @property
    def seq2seq(self) -> Any:
        """The `Seq2Seq` whose layers these are."""
        return self._origin()

    @property
    def id_ranges(self) -> tuple[IdRange, IdRange]:
        """The ids of source and target that the model reads."""
        ranges: tuple[IdRange, IdRange] = self.seq2seq.id_ranges
        return ranges

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> list[Tensor]:
        self.check_ids(inputs)
        outputs: list[Tensor] = super().call(inputs, training=training, mask=mask)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The model that it was made of, without how that is trained."""
        seq2seq = keras.saving.serialize_keras_object(self.seq2seq)
        seq2seq.pop("compile_config", None)
        return {"seq2seq": seq2seq, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Seq2SeqWithScores":
        seq2seq = keras.saving.deserialize_keras_object(config["seq2seq"], custom_objects)
        with parts_as_configured():
            return cls(**{**config, "seq2seq": seq2seq})
