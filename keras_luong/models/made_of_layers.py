"""`MadeOfLayers`: a functional model whose class takes layers, not inputs and outputs."""

from typing import Any

import keras


class MadeOfLayers:
    """Raises where Keras would make a plain functional model in the place of one of this class.

    `keras.models.clone_model` calls a class that takes any number of positional arguments as
    `cls(inputs, outputs)`. For any other class it silently returns a plain functional model. So
    `__init__` of a subclass takes `*others`, and hands them to `check_positions`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and all(map(keras.utils.is_keras_tensor, keras.tree.flatten(args))):
            name = cls.__name__
            raise TypeError(
                f"{name} is made of layers, not of inputs and outputs: keras.models.clone_model "
                f"cannot clone it. Write clone = {name}.from_config(model.get_config()), and for "
                "the same weights clone.set_weights(model.get_weights())"
            )
        return super().__new__(cls, *args, **kwargs)


def check_positions(taken: str, others: tuple[Any, ...]) -> None:
    """Raises a `TypeError` for more positional arguments than those that are taken."""
    if others:
        raise TypeError(
            f"{taken} by position and all other options by name. Received besides: {others!r}"
        )


def check_options(name: str, kwargs: dict[str, Any]) -> None:
    """Raises a `TypeError` for options that `keras.Model` takes and ignores.

    Not least for `dtype`, which belongs to the layers.
    """
    if unknown := sorted(set(kwargs) - {"name", "trainable"}):
        raise TypeError(
            f"{name} has no option {', '.join(f'`{one}`' for one in unknown)}; precision is that "
            f"of its layers. Received: {kwargs!r}"
        )
