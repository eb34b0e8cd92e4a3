"""The layers inside a layer, with the way to each: the one walk over nested layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

# Keras' own lists of what stands in other attributes too.
_LISTS_OF_KERAS = {"_layers", "_operations", "_operations_by_depth"}


def inner_layers(part: Any, closed: tuple[type, ...] = ()) -> Iterator[tuple[list[Any], Any]]:
    """Finds the layers that a layer, or a structure of layers, holds, itself included.

    Args:
        part: A layer, or a list, tuple or mapping of layers.
        closed: Classes of layers that are found, and not what they hold.

    Yields:
        `(path, layer)`, each layer once: attributes, indices and keys that lead from `part` to it,
        as `layer_at` takes them.
    """
    yield from _walk(part, [], set(), closed)


def layer_at(part: Any, path: list[Any]) -> Any:
    """The layer that a path of `inner_layers` leads to."""
    for step in path:
        part = part[step] if isinstance(part, list | tuple | Mapping) else getattr(part, step)
    return part


def _walk(
    part: Any, path: list[Any], seen: set[int], closed: tuple[type, ...]
) -> Iterator[tuple[list[Any], Any]]:
    if not isinstance(part, list | tuple | Mapping | keras.Layer):
        return
    if isinstance(part, keras.Layer):
        if id(part) in seen:
            return
        seen.add(id(part))
        yield path, part
        if isinstance(part, closed):
            return
    for step, one in _members(part):
        yield from _walk(one, [*path, step], seen, closed)


def _members(part: Any) -> list[tuple[Any, Any]]:
    if isinstance(part, Mapping):
        return list(part.items())
    if isinstance(part, list | tuple):
        return list(enumerate(part))
    layers = [("layers", part.layers)] if isinstance(part, keras.Model) else []
    # A user's own `_embedding` comes last: what is public is likelier to stay what it is.
    attributes = sorted(vars(part).items(), key=lambda item: item[0].startswith("_"))
    return layers + [item for item in attributes if item[0] not in _LISTS_OF_KERAS]
