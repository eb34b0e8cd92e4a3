"""`load_tfa_weights`: the weights of a TensorFlow Addons `AttentionWrapper`, for a cell of ours."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_luong.layers.attention_decoder import AttentionDecoder
from keras_luong.layers.attention_decoder_cell import AttentionDecoderCell
from keras_luong.layers.bahdanau_attention import BahdanauAttention
from keras_luong.layers.cells import innermost, output_depth
from keras_luong.layers.luong_attention import LuongAttention
from keras_luong.layers.monotonic_attention import MonotonicAttention

Path = tuple[str, ...]

# What an attention layer here calls its weights, and what TensorFlow Addons calls the same.
_OF_ATTENTION = {
    "kernel": "memory_layer/kernel",
    "key_kernel": "memory_layer/kernel",
    "query_kernel": "query_layer/kernel",
    "v": "attention_v",
    "g": "attention_g",
    "scale": "attention_g",
    "bias": "attention_b",
    "score_bias": "attention_score_bias",
}
# The last part of a variable's name, and what it is. Checkpoints have the attribute's name, which
# is `scale_weight` for the attention_g of `LuongAttention`.
_BY_LAST_PART = {
    "attention_v": "attention_v",
    "attention_g": "attention_g",
    "scale_weight": "attention_g",
    "attention_b": "attention_b",
    "attention_score_bias": "attention_score_bias",
}
_MEMORY, _QUERY = "memory_layer/kernel", "query_layer/kernel"
_VECTOR = "attention_layer/kernel"


class _Given(NamedTuple):
    name: str
    array: np.ndarray
    is_known: bool


def load_tfa_weights(
    layer: AttentionDecoder | AttentionDecoderCell, weights: Mapping[str, Any]
) -> None:
    """Loads the weights of a `tfa.seq2seq.AttentionWrapper` into a cell with the same parts.

    `LuongAttention("general")` takes those of `tfa.seq2seq.LuongAttention`, `BahdanauAttention`
    those of its namesake, and `MonotonicAttention` around one of them those of
    `LuongMonotonicAttention` and `BahdanauMonotonicAttention`. With h the output of the wrapped
    cell and c the context,

        the wrapped cell's kernel, recurrent_kernel, bias -> the same, in every cell of a stack
        memory_layer/kernel   -> LuongAttention.kernel or BahdanauAttention.key_kernel
        query_layer/kernel    -> BahdanauAttention.query_kernel
        attention_v           -> BahdanauAttention.v
        attention_g           -> LuongAttention.scale (scale=True), BahdanauAttention.g (normalize)
        attention_b           -> BahdanauAttention.bias (normalize=True)
        attention_score_bias  -> MonotonicAttention.score_bias
        attention_layer/kernel [W_h; W_c], of [h; c] -> AttentionVector.kernel [W_c; W_h], of [c; h]

    The attention layer of TensorFlow Addons is linear unless one was made for it: give the cell
    `attention_activation=None` for the same numbers, and `units=None` where `attention_layer_size`
    was not given. Activations, `probability_fn` and `mode` are no weights, so they are not checked.

    Variables are told apart by the ends of their names, as TensorFlow makes them (`.../lstm_cell/
    kernel:0`) or as a checkpoint has them (`.../_cell/kernel/.ATTRIBUTES/VARIABLE_VALUE`). The
    cells of a stack are taken in the order in which they come. A layer of your own in the place of
    an attention layer must be renamed to `attention_layer`.

    Args:
        layer: An `AttentionDecoderCell`, or an `AttentionDecoder` with one. If it is not built yet,
            it is built with the depths that the arrays have.
        weights: The variables of one `AttentionWrapper` and of nothing else, by name:
            `{v.name: v.numpy() for v in wrapper.variables}`, or what `numpy.load` or a checkpoint
            reader gives back of that.

    Raises:
        TypeError: If `layer` is neither.
        ValueError: If the cell has parts that TensorFlow Addons does not have, or the names and
            shapes are not exactly those of its weights. The error lists both sides; the cell is as
            it was.

    Example:

    >>> import keras, numpy as np
    >>> from keras_luong import AttentionDecoderCell, LuongAttention
    >>> cell = AttentionDecoderCell(
    ...     keras.layers.GRUCell(4), LuongAttention("general"), units=7, attention_activation=None
    ... )
    >>> weights = {
    ...     "attention_wrapper/attention_layer/kernel:0": np.ones((4 + 5, 7)),
    ...     "attention_wrapper/gru_cell/kernel:0": np.ones((3 + 7, 12)),
    ...     "attention_wrapper/gru_cell/recurrent_kernel:0": np.ones((4, 12)),
    ...     "attention_wrapper/gru_cell/bias:0": np.zeros((2, 12)),
    ...     "LuongAttention/memory_layer/kernel:0": np.ones((5, 4)),
    ... }
    >>> load_tfa_weights(cell, weights)
    >>> print(tuple(cell.attention_vector.kernel.shape), float(cell.attention.kernel[0, 0]))
    (9, 7) 1.0
    """
    cell = layer.cell if isinstance(layer, AttentionDecoder) else layer
    if not isinstance(cell, AttentionDecoderCell):
        raise TypeError(
            f"layer must be an AttentionDecoder or AttentionDecoderCell. Received: {layer!r}"
        )
    scored = _check_parts(cell)
    given = _by_role(weights, has_query=isinstance(scored, BahdanauAttention))
    if cell.built:
        _check_fit(_targets(cell), given)
    else:
        shapes = _shapes_of_build(cell, given)
        # A layer cannot be unbuilt, so a copy shows first whether everything fits.
        trial = type(cell).from_config(cell.get_config())
        trial.build(*shapes)
        _check_fit(_targets(trial), given)
        cell.build(*shapes)
        _check_fit(_targets(cell), given)
    query_depth = output_depth(cell.cell)
    for role, variable in _targets(cell).items():
        array = given[role].array
        if role == _VECTOR:
            array = np.concatenate([array[query_depth:], array[:query_depth]])
        variable.assign(array)


# -- our side ---------------------------------------------------------------------------------


def _check_parts(cell: AttentionDecoderCell) -> LuongAttention | BahdanauAttention:
    """Refuses a cell with parts that TensorFlow Addons does not have; returns what scores."""
    attention, vector = cell.attention, cell.attention_vector
    scored = attention.attention if isinstance(attention, MonotonicAttention) else attention
    is_luong = isinstance(scored, LuongAttention)
    is_general = is_luong and scored.score_mode == "general" and scored.window == "global"
    if not (is_general or isinstance(scored, BahdanauAttention)):
        raise ValueError(
            'TensorFlow Addons has the attention of LuongAttention("general") with the global '
            "window, of BahdanauAttention, and of MonotonicAttention around them, one for a cell. "
            f"Received: {type(scored).__name__} with {_options(scored)}"
        )
    if vector.two_layer or vector.gate is not None:
        raise ValueError(
            "The attention layer of TensorFlow Addons has one layer and no gate. Received: "
            f"two_layer={vector.two_layer}, gate={vector.gate!r}"
        )
    return scored


def _options(attention: Any) -> dict[str, Any]:
    config = attention.get_config()
    return {name: config[name] for name in ("score_mode", "window") if name in config}


def _targets(cell: AttentionDecoderCell) -> dict[str, Any]:
    """The variables of a built cell, by the names of TensorFlow Addons."""
    targets = {}
    for index, inner in enumerate(one for one, _ in innermost(cell.cell, 0)):
        for variable in inner.weights:
            targets[f"cell {index}/{variable.name}"] = variable
    for variable in cell.attention.weights:
        targets[_OF_ATTENTION.get(variable.name, variable.name)] = variable
    for variable in cell.attention_vector.weights:
        targets[f"attention_layer/{variable.name}"] = variable
    return targets


def _shapes_of_build(
    cell: AttentionDecoderCell, given: dict[str, _Given]
) -> tuple[tuple[None, int], tuple[None, None, int]]:
    """The shapes of inputs and memory that the arrays were made for."""
    needed = ("cell 0/kernel", _MEMORY)
    if any(role not in given or given[role].array.ndim != 2 for role in needed):
        raise ValueError(
            f"{_DO_NOT_FIT} It is not built, and its depths are read off the matrices "
            f"{' and '.join(needed)}.\n{_listed(given)}"
        )
    rows, memory_depth = (given[role].array.shape[0] for role in needed)
    fed_back = (memory_depth if cell.units is None else cell.units) if cell.input_feeding else 0
    if rows <= fed_back:
        raise ValueError(
            f"{_DO_NOT_FIT} The kernel of the wrapped cell must have rows for the input and for "
            f"the {fed_back} numbers that are fed back.\n{_listed(given)}"
        )
    return (None, rows - fed_back), (None, None, memory_depth)


# -- their side -------------------------------------------------------------------------------


def _by_role(weights: Mapping[str, Any], has_query: bool) -> dict[str, _Given]:
    """The arrays by what they are; what is not known keeps its name."""
    paths = {name: _path(name) for name in weights}
    scopes = list(
        dict.fromkeys(
            path[:-1]
            for path in paths.values()
            if (*path[:-1], "recurrent_kernel") in paths.values()
        )
    )
    _check_order(scopes)
    roles = {name: _role(path, scopes) for name, path in paths.items()}
    _name_the_rest(roles, paths, scopes, [_MEMORY, _QUERY] if has_query else [_MEMORY])
    given: dict[str, _Given] = {}
    for name, array in weights.items():
        role = roles[name] or name
        if role in given:
            raise ValueError(
                f"Two variables seem to be {role}: {given[role].name!r} and {name!r}. Give the "
                "variables of one AttentionWrapper with one attention mechanism."
            )
        given[role] = _Given(name, np.asarray(array), roles[name] is not None)
    return given


def _path(name: str) -> Path:
    """`a/b/kernel:0` or `a/b/kernel/.ATTRIBUTES/VARIABLE_VALUE` -> `(a, b, kernel)`."""
    return tuple(name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").split(":")[0].split("/"))


def _role(path: Path, scopes: list[Path]) -> str | None:
    *scope, last = path
    if tuple(scope) in scopes and last in ("kernel", "recurrent_kernel", "bias"):
        return f"cell {scopes.index(tuple(scope))}/{last}"
    if last in _BY_LAST_PART:
        return _BY_LAST_PART[last]
    if scope[-1:] == ["attention_layer"] or scope[-2:-1] == ["_attention_layers"]:
        return f"attention_layer/{last}"
    if scope[-1:] in (["memory_layer"], ["query_layer"]):
        return f"{scope[-1]}/{last}"
    return None


def _name_the_rest(
    roles: dict[str, str | None], paths: dict[str, Path], scopes: list[Path], possible: list[str]
) -> None:
    """Names the kernels that end in nothing but the mechanism's name: memory's and query's.

    The query's is made inside the wrapper's call, as the wrapped cell's weights are, so its name
    begins as theirs do. The memory's is made before.
    """
    rest = [name for name, role in roles.items() if role is None and paths[name][-1] == "kernel"]
    free = [role for role in possible if role not in roles.values()]
    if len(rest) == 2 and len(free) == 2:
        first, second = (_shared(paths[name], scopes) for name in rest)
        if first == second:
            raise ValueError(
                f"Which of {rest[0]!r} and {rest[1]!r} belongs to the memory, and which to the "
                "query? Rename them to memory_layer/kernel and query_layer/kernel."
            )
        rest = rest if first < second else rest[::-1]
    if len(rest) <= len(free):
        roles.update(zip(rest, free, strict=False))


def _shared(path: Path, scopes: list[Path]) -> int:
    """How many leading parts a name shares with the wrapped cell's."""
    counts = [0]
    for scope in scopes:
        pairs = zip(path, scope, strict=False)
        counts.append(next((i for i, (a, b) in enumerate(pairs) if a != b), len(scope)))
    return max(counts)


def _check_order(scopes: list[Path]) -> None:
    """Refuses a stack that somebody sorted by name: `cell_10` before `cell_2`."""
    numbers: dict[Path, int] = {}
    for scope in scopes:
        stem, number = _numbered(scope[-1] if scope else "")
        kind = (*scope[:-1], stem)
        if number < numbers.get(kind, -1):
            names = ["/".join(one) for one in scopes]
            raise ValueError(
                "The cells of a stack must come in the stack's order, as wrapper.variables has "
                f"them. Received: {names}"
            )
        numbers[kind] = number


def _numbered(name: str) -> tuple[str, int]:
    """`lstm_cell_12` -> `("lstm_cell", 12)`; without a number, 0."""
    match = re.fullmatch(r"(.*?)_?(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


# -- both -------------------------------------------------------------------------------------

_DO_NOT_FIT = "These weights do not fit the cell, which is as it was."


def _check_fit(targets: dict[str, Any], given: dict[str, _Given]) -> None:
    missing = [role for role in targets if role not in given]
    unknown = [one.name for role, one in given.items() if role not in targets]
    other = [
        role
        for role, variable in targets.items()
        if role in given and given[role].array.shape != tuple(variable.shape)
    ]
    wrong = {"Missing": missing, "Not expected": unknown, "Of another shape": other}
    if not any(wrong.values()):
        return
    lines = [f"{what}: {', '.join(names)}." for what, names in wrong.items() if names]
    expected = [f"  {role} {tuple(variable.shape)}" for role, variable in targets.items()]
    raise ValueError("\n".join([_DO_NOT_FIT, *lines, "Expected:", *expected, _listed(given)]))


def _listed(given: dict[str, _Given]) -> str:
    lines = [
        f"  {one.name} {one.array.shape}, {f'taken for {role}' if one.is_known else 'not known'}"
        for role, one in given.items()
    ]
    return "\n".join(["Received:", *(lines or ["  nothing"])])
