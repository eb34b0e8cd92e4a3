"""What a search is asked for, one call at a time."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

Tensor = Any


class Request(NamedTuple):
    """What a call asks of a search, besides the step function.

    Attributes:
        end_id: The id that ends a hypothesis.
        max_length: The most tokens to generate.
        source_mask: Boolean `(b, s)`, or `None`.
        prefix: int32 `(b, p)`, what hypotheses must begin with, below 0 where nothing is forced:
            there one may also end. Once completed, `p` is `max_length`.
        constraints: int32 `(b, c, l)`, phrases that must appear, below 0 after their end.
        alpha: `(b,)`, or `None`.
        seed: int32 `(b,)`, or `None`.
        limits: int32 `(b, 1)`, the most tokens of each sentence, or `None`.
        word_ids: int32 `(v,)`, the ids that logits are of, or `None` for all from 0 on. Once
            completed, all other ids are places among them.
    """

    end_id: Any
    max_length: int
    source_mask: Tensor | None = None
    prefix: Tensor | None = None
    constraints: Tensor | None = None
    alpha: Tensor | None = None
    seed: Any = None
    limits: Tensor | None = None
    word_ids: Tensor | None = None

    def check(self, search: Any) -> None:
        """Refuses what `search` cannot do.

        Which ids contradict it is seen in NumPy arrays alone: tensors have no values while tracing.
        """
        least = max(1, search.min_length)
        if self.max_length < least:
            of_search = f" (the min_length of {search!r})" if least > 1 else ""
            raise ValueError(
                f"max_length must be at least {least}{of_search}. Received: {self.max_length}"
            )
        for name in ("prefix", "constraints", "alpha", "seed"):
            if getattr(self, name) is not None and name not in search.takes:
                raise ValueError(
                    f"{type(search).__name__} takes {', '.join(search.takes)}. Received: {name}"
                )
        if search.max_length_factor is not None and self.source_mask is None:
            raise ValueError("max_length_factor needs the source_mask. Received: None")
        if self.prefix is not None:
            _check_ids("prefix", self.prefix, 2)
            self._check_prefix(search)
        if self.constraints is not None:
            _check_ids("constraints", self.constraints, 3)
            self._check_constraints(search)
        for name in ("alpha", "seed"):
            shape = np.shape(getattr(self, name))
            if len(shape) > 1:
                raise ValueError(
                    f"{name} must be a number or have the shape (batch,). Received shape: "
                    f"{tuple(shape)}"
                )
        alpha = self.alpha
        if isinstance(alpha, np.ndarray) and not ((alpha >= 0) & (alpha < np.inf)).all():
            raise ValueError(f"alpha must be at least 0 and finite. Received: {alpha.tolist()}")
        search.check(self)

    def _check_prefix(self, search: Any) -> None:
        prefix: Any = self.prefix
        if prefix.shape[1] is not None and prefix.shape[1] > self.max_length:
            raise ValueError(
                f"A prefix has at most max_length={self.max_length} tokens. Received: a prefix of "
                f"{prefix.shape[1]}"
            )
        if not isinstance(prefix, np.ndarray):
            return
        _refuse_banned("prefix", prefix, search.banned_ids)
        for row, ids in enumerate(prefix):
            ends = np.flatnonzero(ids == self.end_id)
            if len(ends) and ends[0] + 1 < search.min_length:
                raise ValueError(
                    f"A prefix that ends after {ends[0] + 1} tokens contradicts min_length="
                    f"{search.min_length}. Received for sentence {row}: {ids.tolist()}"
                )

    def _check_constraints(self, search: Any) -> None:
        known = self.constraints
        if not isinstance(known, np.ndarray):
            return
        _refuse_banned("constraints", known, search.banned_ids)
        if (known == self.end_id).any():
            raise ValueError(
                f"A phrase that must appear cannot hold the end id {self.end_id}. Received: "
                f"{known.tolist()}"
            )
        if ((known[..., :-1] < 0) & (known[..., 1:] >= 0)).any():
            raise ValueError(
                "A phrase has no holes: below 0 stands after its end alone. Received: "
                f"{known.tolist()}"
            )
        longest = (known >= 0).sum(axis=-1).max(initial=0)
        if longest > self.max_length:
            raise ValueError(
                f"A phrase of {longest} tokens does not fit into max_length={self.max_length}."
            )

    def completed(self, search: Any, batch_size: Any) -> "Request":
        """With limits, places for ids, and the prefix as long as the hypotheses may get."""
        prefix, constraints, seed, limits = self.prefix, self.constraints, self.seed, None
        if prefix is not None:
            prefix = self.places(prefix)
            missing = ops.full((batch_size, self.max_length - ops.shape(prefix)[1]), -1, "int32")
            prefix = ops.concatenate([prefix, missing], axis=1)
        if constraints is not None:
            # Of no phrase or no token there is nothing to hold.
            none = 0 in constraints.shape[1:]
            constraints = None if none else self.places(constraints)
        if search.max_length_factor is not None:
            source = ops.sum(ops.cast(self.source_mask, "float32"), axis=1, keepdims=True)
            # A little less: of 100 times 0.15, float32 makes more than 15.
            factor = search.max_length_factor * (1.0 - 2.0**-20)
            # Within the limits first: what int32 does not hold becomes anything in it.
            limits = ops.cast(ops.clip(ops.ceil(source * factor), 1, self.max_length), "int32")
        if seed is not None:
            seed = ops.cast(seed, "int32")
            if len(seed.shape) == 0:  # one for all: sentences then differ by their place
                seed = seed + ops.arange(batch_size, dtype="int32")
        return self._replace(
            end_id=self.end_id if self.word_ids is None else self.places([self.end_id])[0],
            prefix=prefix,
            constraints=constraints,
            seed=seed,
            limits=limits,
        )

    def places(self, ids: Tensor) -> Tensor:
        """Where ids stand among those that logits are of; below 0 nothing stands."""
        ids = ops.cast(ops.convert_to_tensor(ids), "int32")
        if self.word_ids is None:
            return ids
        found = ops.searchsorted(self.word_ids, ops.reshape(ids, (-1,)))
        return ops.where(ids < 0, ids, ops.reshape(ops.cast(found, "int32"), ops.shape(ids)))

    def ids(self, places: Tensor) -> Tensor:
        """The ids at places."""
        return places if self.word_ids is None else ops.take(self.word_ids, places, axis=0)

    def at_limit(self, step: Any) -> Tensor:
        """Boolean `(b, 1)` or `(1, 1)`: whether a hypothesis is as long as may be after a step."""
        limits = self.max_length if self.limits is None else self.limits
        return ops.reshape(ops.convert_to_tensor(step + 1 >= limits), (-1, 1))

    def of_beams(self, values: Tensor | None) -> Tensor | None:
        """`(b,)` as `(b, 1, 1)`; one number for all stays one."""
        if values is None:
            return None
        values = ops.convert_to_tensor(values)
        return ops.reshape(values, (-1, 1, 1)) if len(values.shape) else values


def _check_ids(name: str, ids: Any, rank: int) -> None:
    dtype = keras.backend.standardize_dtype(ids.dtype)
    if len(ids.shape) != rank or "int" not in dtype:
        axes = "(batch, tokens)" if rank == 2 else "(batch, phrases, tokens)"
        raise ValueError(
            f"{name} must be integer ids {axes}, below 0 where nothing stands. Received shape "
            f"{tuple(ids.shape)}, dtype {dtype}"
        )


def _refuse_banned(name: str, known: np.ndarray, banned_ids: tuple[int, ...]) -> None:
    both = sorted(set(known[known >= 0].tolist()) & set(banned_ids))
    if both:
        raise ValueError(f"{name} and banned_ids contradict each other. Received in both: {both}")
