"""Configs of parts that share layers: what was one layer is one layer again.

Keras keeps what is shared within one functional model, not what is shared between models that are
saved together, nor by models inside it.
"""

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_luong.models.inner_layers import inner_layers, layer_at

Config = Any
Path = list[Any]
_MARK, _NAME = "keras_luong_layer", "keras_luong>SharedLayer"


def serialized_parts(parts: Mapping[str, Any]) -> dict[str, Config]:
    """The configs of parts by name, in which a layer of several places is named as one.

    Args:
        parts: Layers by name, or `None`.

    Raises:
        ValueError: If some layers are shared in a way that no config can say.
    """
    found = {name: list(inner_layers(part)) for name, part in parts.items()}
    layers = {id(layer): layer for inner in found.values() for _, layer in inner}
    with _marked(layers):
        configs = {name: _serialized(part) for name, part in parts.items()}
    counts = {name: Counter(_marks(config)) for name, config in configs.items()}
    shared: dict[int, Config] = {}
    whole: list[tuple[str, Path]] = []
    for key, layer in layers.items():
        places = [
            (name, path) for name, inner in found.items() for path, one in inner if one is layer
        ]
        of_configs = sum(counts[name][key] for name, _ in places)
        makers = [(name, path) for name, path in places if not counts[name][key]]
        if len(places) > 1 and makers and not _are_inside(places, whole):
            _check_maker(layer, makers, of_configs)
            (part, path), *_ = makers
            shared[key] = {"part": part, "path": path}
        elif of_configs > 1:
            shared[key] = {"key": len(shared)}
        if key in shared:
            whole += places
    _check_calls(configs, shared, layers)
    return {name: _unmarked(config, shared) for name, config in configs.items()}


def deserialized_parts(configs: Mapping[str, Config], custom_objects: Any = None) -> dict[str, Any]:
    """The parts of `serialized_parts`."""
    restored = _Restored()
    with keras.saving.custom_object_scope({_NAME: restored}):
        # Those that refer to layers which another part makes itself come after that part.
        for name in sorted(configs, key=lambda name: _refers(configs[name])):
            restored.parts[name] = _deserialized(configs[name], custom_objects)
    return {name: restored.parts[name] for name in configs}


class _Restored:
    """To Keras the class of what stands in a config in the place of a shared layer."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self._made: dict[int, Any] = {}

    def from_config(self, config: dict[str, Any]) -> Any:
        """The layer: one that a part made itself, or made where it is met first."""
        if "part" in config:
            return layer_at(self.parts[config["part"]], config["path"])
        if config["key"] not in self._made:
            self._made[config["key"]] = keras.saving.deserialize_keras_object(config["layer"])
        return self._made[config["key"]]


def _serialized(part: Any) -> Config:
    return None if part is None else keras.saving.serialize_keras_object(part)


def _deserialized(config: Config, custom_objects: Any) -> Any:
    if config is None:
        return None
    # A copy, since a functional model empties the config that it is made from.
    return keras.saving.deserialize_keras_object(copy.deepcopy(config), custom_objects)


@contextlib.contextmanager
def _marked(layers: Mapping[int, Any]) -> Iterator[None]:
    """For a while every layer says in its config which one it is."""

    def config_of(layer: Any, plain: Any) -> Any:
        return lambda: {**plain(), _MARK: id(layer)}

    try:
        for layer in layers.values():
            vars(layer)["get_config"] = config_of(layer, layer.get_config)
        yield
    finally:
        for layer in layers.values():
            vars(layer).pop("get_config", None)


def _mark_of(config: Config) -> int | None:
    inner = config.get("config") if isinstance(config, dict) else None
    return inner.get(_MARK) if isinstance(inner, dict) else None


def _members(config: Config) -> list[Config]:
    if isinstance(config, dict):
        return list(config.values())
    return list(config) if isinstance(config, list | tuple) else []


def _marks(config: Config) -> Iterator[int]:
    if (mark := _mark_of(config)) is not None:
        yield mark
    for one in _members(config):
        yield from _marks(one)


def _unmarked(config: Config, shared: Mapping[int, Config]) -> Config:
    if isinstance(config, list | tuple):
        return type(config)(_unmarked(one, shared) for one in config)
    if not isinstance(config, dict):
        return config
    plain = {key: _unmarked(one, shared) for key, one in config.items() if key != _MARK}
    place = shared.get(_mark_of(config) or 0)
    if place is None:
        return plain
    # To a functional model around it the name and the calls of the layer stay.
    around = {key: plain.pop(key) for key in ("name", "inbound_nodes") if key in plain}
    layer = {} if "part" in place else {"layer": plain}
    return {
        "module": None,
        "class_name": _NAME,
        "registered_name": _NAME,
        "config": {**place, **layer},
        **around,
    }


def _refers(config: Config) -> bool:
    """Whether some of it is a layer that another part makes itself."""
    if isinstance(config, dict) and config.get("class_name") == _NAME:
        return "part" in config["config"] or _refers(config["config"]["layer"])
    return any(map(_refers, _members(config)))


def _are_inside(places: list[tuple[str, Path]], whole: list[tuple[str, Path]]) -> bool:
    """Whether each of some places is inside a layer that is shared as a whole."""
    return all(
        any(part == other and path[: len(start)] == start for other, start in whole)
        for part, path in places
    )


def _check_maker(layer: Any, makers: list[tuple[str, Path]], of_configs: int) -> None:
    if len(makers) > 1 or not of_configs:
        parts = [part for part, _ in makers]
        raise ValueError(
            f"{layer!r} is shared by {parts}, whose configs do not hold it: a loaded model would "
            "have several. Serialize it in their `get_config`, with "
            "keras.saving.serialize_keras_object"
        )


def _check_calls(
    configs: Mapping[str, Config], shared: Mapping[int, Config], layers: Mapping[int, Any]
) -> None:
    """Raises for a layer that several functional models call.

    Keras counts the calls of a layer within each of them, and takes those of the first for those of
    the second when it loads them.
    """
    earlier: set[int] = set()
    for config in configs.values():
        functional, sequential = Counter(_calls(config)), set(_calls_in_sequence(config))
        again = {key for key in functional if functional[key] > 1} | (sequential | earlier)
        for key in again & set(functional) & set(shared):
            raise ValueError(
                f"{layers[key]!r} is called in several functional or Sequential models, of which "
                "Keras cannot load more than one. Call it in one of them, or inside a layer of "
                "your own"
            )
        earlier |= sequential | set(functional)


def _calls(config: Config) -> Iterator[int]:
    mark = _mark_of(config)
    if mark is not None and config.get("inbound_nodes"):
        yield mark
    for one in _members(config):
        yield from _calls(one)


def _calls_in_sequence(config: Config) -> Iterator[int]:
    if isinstance(config, dict) and config.get("class_name") == "Sequential":
        yield from _marks(config["config"]["layers"])
    for one in _members(config):
        yield from _calls_in_sequence(one)
