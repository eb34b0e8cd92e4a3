"""A search whose batch shrinks: sentences that are done are computed no further."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_luong.search.hypotheses import Hypotheses
from keras_luong.search.request import Request

Tensor = Any
Advance = Callable[[Tensor, Hypotheses, Any, Request], Hypotheses]


def all_along(
    advance: Advance, step: Tensor, hypotheses: Hypotheses, shared: Any, request: Request
) -> Hypotheses:
    """Every sentence runs until all of them are done.

    Args:
        advance: `(step, hypotheses, shared, request) -> hypotheses`, one step further.
        step: The index of the next step.
        hypotheses: Those of the steps before.
        shared: What the search's step shares between hypotheses.
        request: What is searched for.
    """
    return _until(0, advance, step, hypotheses, shared, request)[1]


def shrinking(
    advance: Advance, step: Tensor, hypotheses: Hypotheses, shared: Any, request: Request
) -> Hypotheses:
    """The same, but each time that half of the sentences are done they leave the batch.

    For where the size of the batch may change from turn to turn: on torch, and on TensorFlow in a
    graph without XLA that is traced for a batch of unknown size, or without a graph. What comes
    back has no state and no coverage.

    Args:
        advance: See `all_along`, as for the rest.
        step: See there.
        hypotheses: See there.
        shared: See there.
        request: See there.
    """
    rows = ops.arange(ops.shape(hypotheses.last_ids)[0], dtype="int32")
    running = (hypotheses, shared, _of_sentences(request))
    whole = _lasting(hypotheses)

    def is_any_left(step: Tensor, rows: Tensor, *_: Any) -> Tensor:
        return ops.logical_and(step < request.max_length, ops.shape(rows)[0] > 0)

    def body(step: Tensor, rows: Tensor, whole_flat: tuple, running_flat: tuple) -> tuple:
        hypotheses, shared, own = _packed(running, running_flat)
        half = ops.shape(rows)[0] // 2
        step, hypotheses = _until(half, advance, step, hypotheses, shared, request._replace(**own))
        whole_now = tuple(
            ops.scatter_update(old, rows[:, None], new)
            for old, new in zip(whole_flat, _leaves(_lasting(hypotheses)), strict=True)
        )
        left = ops.cast(ops.nonzero(_is_running(hypotheses))[0], "int32")
        kept = tuple(ops.take(one, left, axis=0) for one in _leaves((hypotheses, shared, own)))
        return step, ops.take(rows, left), whole_now, kept

    start = (step, rows, tuple(_leaves(whole)), tuple(_leaves(running)))
    _, _, whole_flat, _ = ops.while_loop(is_any_left, body, start)
    return _packed(whole, whole_flat)


def _until(
    most: Any,
    advance: Advance,
    step: Tensor,
    hypotheses: Hypotheses,
    shared: Any,
    request: Request,
) -> tuple[Tensor, Hypotheses]:
    """Runs until at most so many sentences are not done."""
    structure = hypotheses

    def packed(variables: tuple) -> Hypotheses:
        return keras.tree.pack_sequence_as(structure, list(variables))

    def is_running(step: Tensor, variables: tuple) -> Tensor:
        count = ops.sum(ops.cast(_is_running(packed(variables)), "int32"))
        return ops.logical_and(step < request.max_length, count > most)

    def body(step: Tensor, variables: tuple) -> tuple:
        after = advance(step, packed(variables), shared, request)
        return step + 1, tuple(keras.tree.flatten(after))

    start = (step, tuple(keras.tree.flatten(hypotheses)))
    step, variables = ops.while_loop(is_running, body, start)
    return step, packed(variables)


def _is_running(hypotheses: Hypotheses) -> Tensor:
    """Boolean `(b,)`: whether a sentence has a hypothesis that is not done."""
    return ops.logical_not(ops.all(hypotheses.is_done, axis=-1))


def _lasting(hypotheses: Hypotheses) -> Hypotheses:
    """What is still of use when a sentence is done."""
    return hypotheses._replace(state=(), coverage=())


def _of_sentences(request: Request) -> dict[str, Tensor]:
    """What of a request leads with b."""
    return {
        name: ops.convert_to_tensor(one)
        for name, one in request._asdict().items()
        if name != "word_ids" and one is not None and len(getattr(one, "shape", ())) > 0
    }


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in keras.tree.flatten(tree) if leaf is not None]


def _packed(structure: Any, leaves: tuple) -> Any:
    """The structure with these leaves in the places of its own; `None` stays."""
    rest = iter(leaves)
    flat = [None if leaf is None else next(rest) for leaf in keras.tree.flatten(structure)]
    return keras.tree.pack_sequence_as(structure, flat)
