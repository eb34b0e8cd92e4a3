"""`Generation`: what a model that is searched can do, be it one model or several."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_luong.checked_numbers import integer_of
from keras_luong.functional import IdRange
from keras_luong.ids import END_ID, PADDING_ID, START_ID
from keras_luong.iterables import rows_in_order
from keras_luong.models.compiled import Argument, CompiledFunctions, has_dynamic_shapes
from keras_luong.search import Request, Search, SearchResult, Shortlist, search_of

Tensor = Any


class Generation:
    """`generate` and `run_search`, for a class that can encode a source and decode step by step."""

    _searches: CompiledFunctions
    """Searches by what they were asked for; a subclass begins with none."""

    @property
    def vocabulary_size(self) -> int:
        """Number of target ids."""
        raise NotImplementedError

    @property
    def source_vocabulary_size(self) -> int | None:
        """Number of source ids, if it can be seen."""
        return None

    @property
    def max_source_length(self) -> int | None:
        """Length of the longest source (end token included) that can be read, if there is one."""
        raise NotImplementedError

    def encode(self, source: Tensor) -> tuple[Any, Any]:
        """Reads source ids `(b, s)`: the memory, and the decoder's initial states."""
        raise NotImplementedError

    def attended_mask(self, memory: Any) -> Tensor | None:
        """The positions that attention scores are of, boolean `(b, s)`."""
        raise NotImplementedError

    def initial_state(self, states: Any, memory: Any) -> Any:
        """The state a search starts from, its tensors `(b, 1, ...)`."""
        raise NotImplementedError

    def step(self, ids: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any, Tensor]:
        """One step of decoding, as a search calls it."""
        raise NotImplementedError

    def check_shortlist(self) -> None:
        """Raises a `ValueError` if `step_among` cannot be had of this model."""
        raise NotImplementedError

    def step_among(self, word_ids: Tensor) -> Any:
        """A function like `step`, whose logits are those of increasing ids `(n,)` alone.

        It takes `(memory, allowed)` in the place of the memory: which of the ids each sentence may
        hold, boolean `(b, n)`. The others get minus infinity.
        """
        raise NotImplementedError

    def generate(
        self,
        source: Tensor,
        search: str | Search = "greedy",
        *,
        max_length: int = 64,
        start_id: int = START_ID,
        end_id: int = END_ID,
        prefix: Any = None,
        constraints: Any = None,
        alpha: Any = None,
        seed: Any = None,
        shortlist: Shortlist | None = None,
    ) -> SearchResult:
        """Generates target ids for source ids.

        Args:
            source: int `(b, s)`, padded with 0, the end id last: as in training. No rows give no
                rows.
            search: `"greedy"`, `"beam"`, `"sampling"`, or a search object such as `BeamSearch(5)`.
            max_length: The most tokens to generate, the end token included.
            start_id: What stands before the first generated token.
            end_id: What ends a hypothesis.
            prefix: int `(b, p)`, what every hypothesis must begin with, -1 where nothing is forced.
            constraints: int `(b, c, l)`, for a beam search: c phrases of at most l tokens that must
                appear, -1 after their end.
            alpha: A number or `(b,)`, in the place of the `alpha` of a beam search.
            seed: A number or int `(b,)`, for sampling. By default drawn anew, by NumPy, which
                `keras.utils.set_random_seed` seeds.
            shortlist: A `Shortlist`, so that only the target ids are considered that it finds for
                the source, and those of prefix and constraints.

        Returns:
            A `SearchResult`.

        Raises:
            ValueError: For a source that is not integer of rank 2 or has no column, holds ids that
                the model does not have, or is longer than `max_source_length`; an unknown search;
                lengths, a prefix or constraints that cannot be or contradict each other; what the
                search does not take; and a model whose logits are NaN.
        """
        source, search = ops.convert_to_tensor(rows_in_order(source)), search_of(search)
        self._check_source(source)
        if shortlist is not None:
            self.check_shortlist()
        max_length = integer_of("max_length", max_length)
        start_id, end_id = integer_of("start_id", start_id), integer_of("end_id", end_id)
        rows = source.shape[0]
        if seed is None and "seed" in search.takes:
            seed = np.random.randint(2**31 - 1)
        given = _arrays(rows, prefix=prefix, constraints=constraints, alpha=alpha, seed=seed)
        mask = np.ones((rows, 1), "bool")
        Request(end_id, max_length, mask, **given).check(search)
        self._check_vocabulary(search, {"start_id": start_id, "end_id": end_id, **given})
        if rows == 0:
            # A row of padding stands in: not every backend can reshape nothing.
            source = ops.zeros((1, source.shape[1]), "int32")
            given = {
                name: np.full((1, *one.shape[1:]), -1, one.dtype) for name, one in given.items()
            }
        if shortlist is not None:
            named = [given[name] for name in ("prefix", "constraints") if name in given]
            always = np.full((source.shape[0], 2), [start_id, end_id])
            ids = ops.convert_to_numpy(source)
            given["word_ids"], given["allowed"] = shortlist.of(
                ids, self.vocabulary_size, always, *named
            )
        run = self._compiled_search(search, max_length, start_id, end_id, given)
        result = run(ops.cast(source, "int32"), *map(ops.convert_to_tensor, given.values()))
        _check_numbers(result)
        if rows == 0:
            return SearchResult(*(None if field is None else field[:0] for field in result))
        return result

    def run_search(
        self,
        source: Tensor,
        search: str | Search,
        max_length: int,
        start_id: int = START_ID,
        end_id: int = END_ID,
        shrinks: bool = False,
        keeps_attention: bool = True,
        word_ids: Tensor | None = None,
        allowed: Tensor | None = None,
        **inputs: Tensor,
    ) -> SearchResult:
        """`generate` without compilation and checks, to be part of a graph of your own.

        Args:
            source: int32 `(b, s)`.
            search: As in `generate`.
            max_length: As in `generate`.
            start_id: As in `generate`.
            end_id: As in `generate`.
            shrinks: Whether sentences that are done leave the batch, which a graph must bear: not
                on JAX, and on TensorFlow without XLA, for a batch of unknown size.
            keeps_attention: Whether the attention scores of all steps are kept and come back. If
                not, they take no memory, unless the search itself weighs them.
            word_ids: int32 `(n,)`, n known, increasing: the target ids that are considered, start,
                end, prefix and constraints among them; by default all.
            allowed: Boolean `(b, n)`: which of them each sentence may hold.
            **inputs: `prefix`, `constraints`, `alpha` and `seed` of `generate`, as tensors that
                lead with b.

        Returns:
            A `SearchResult`.
        """
        memory, states = self.encode(source)
        search, step, shared = search_of(search), self.step, memory
        if word_ids is not None:
            step, shared = self.step_among(word_ids), (memory, allowed)
        keeps = keeps_attention or search.needs_coverage
        # Attention scores are of the memory, which may be shorter than the source.
        covered = search.needs_coverage
        mask = self.attended_mask(memory) if covered else ops.not_equal(source, PADDING_ID)
        return search(
            step if keeps else _without_attention(step),
            self.initial_state(states, memory),
            shared,
            start_ids=ops.full((ops.shape(source)[0], 1), start_id, "int32"),
            end_id=end_id,
            max_length=max_length,
            source_mask=mask,
            shrinks=shrinks,
            word_ids=word_ids,
            **inputs,
        )

    def _compiled_search(
        self, search: Search, max_length: int, start_id: int, end_id: int, given: dict[str, Any]
    ) -> Any:
        arguments = {
            name: Argument(_shape(name, one.shape), str(one.dtype)) for name, one in given.items()
        }

        def run(source: Tensor, *inputs: Tensor) -> SearchResult:
            named = dict(zip(given, inputs, strict=True))
            return self.run_search(
                source, search, max_length, start_id, end_id, has_dynamic_shapes(), **named
            )

        key = (search, max_length, start_id, end_id, *arguments.items())
        everything = [Argument((None, None), "int32"), *arguments.values()]
        return self._searches.get(key, self, run, everything)

    def _check_source(self, source: Tensor) -> None:
        dtype = keras.backend.standardize_dtype(source.dtype)
        if len(source.shape) != 2 or source.shape[1] == 0 or "int" not in dtype:
            raise ValueError(
                "source must be integer ids of shape (batch, source length), with at least the end "
                f"id in each row. Received shape {tuple(source.shape)}, dtype {dtype}."
            )
        IdRange("source", self.source_vocabulary_size).check(ops.convert_to_numpy(source))
        longest = self.max_source_length
        if longest is not None and source.shape[1] > longest:
            raise ValueError(
                f"The location score of this model takes sources of at most {longest} ids. "
                f"Received {source.shape[1]}."
            )

    def _check_vocabulary(self, search: Search, given: dict[str, Any]) -> None:
        for name in ("start_id", "end_id"):
            if given[name] < 0:
                raise ValueError(f"{name} must be at least 0. Received: {given[name]}")
        named = {"banned_ids": search.banned_ids, **given}
        for name in ("start_id", "end_id", "banned_ids", "prefix", "constraints"):
            largest = np.max(named.get(name, ()), initial=-1)
            if largest >= self.vocabulary_size:
                raise ValueError(
                    f"{name} must hold ids below the vocabulary's size {self.vocabulary_size}. "
                    f"Received: {largest}"
                )


def _check_numbers(result: SearchResult) -> None:
    if np.isnan(ops.convert_to_numpy(result.log_probs)).any():
        raise ValueError(
            "The log-probabilities of what was generated are NaN. The model's weights hold NaN or "
            "infinity, such as after a training that has diverged."
        )


def _without_attention(step: Callable[..., tuple]) -> Callable[..., tuple]:
    return lambda *given: step(*given)[:2]


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """The sizes that shape the graph: how many phrases of how many tokens, and of how many ids."""
    if name == "word_ids":
        return shape
    return (None, *(shape[1:] if name in ("constraints", "allowed") else [None] * len(shape[1:])))


_DTYPES = {"prefix": "int32", "constraints": "int32", "alpha": "float32", "seed": "int32"}


def _arrays(rows: int, **given: Any) -> dict[str, np.ndarray]:
    """What was given as arrays that lead with b; numbers are repeated, a seed counts on."""
    arrays = {}
    for name, one in given.items():
        if one is None:
            continue
        one = ops.convert_to_numpy(rows_in_order(one))
        if not one.ndim:
            one = np.full(rows, one) + (np.arange(rows) if name == "seed" else 0)
        kind = "iu" if _DTYPES[name] == "int32" else "iuf"
        if one.shape[0] != rows or one.dtype.kind not in kind:
            raise ValueError(
                f"{name} must hold {_DTYPES[name]}, one row a sentence, {rows} in all. Received "
                f"shape {one.shape}, dtype {one.dtype}"
            )
        arrays[name] = one.astype(_DTYPES[name])
    return arrays
