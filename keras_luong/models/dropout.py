"""Which layer drops from sequences: anew at every step, or by one mask a sequence."""

import keras


def dropout_class(variational: bool) -> type[keras.layers.Layer]:
    """The layer that drops from `(b, t, d)`.

    Args:
        variational: Whether one mask `(b, d)` holds for all steps, as in
            [Gal, Ghahramani 2016](https://arxiv.org/abs/1512.05287).
    """
    return keras.layers.SpatialDropout1D if variational else keras.layers.Dropout
