"""Phrases that must appear in a hypothesis, and a beam that makes room for those on their way.

A hypothesis belongs to the bank of as many tokens as it has of its phrases: those of the phrases
it holds, and those of the longest beginning of another one that it ends with. The slots of a beam
go to the banks in turn, from the fullest on: the best hypothesis of every bank, then the second
best, and so on. So the fullest bank always goes on, and what is probable but lacks a phrase is not
crowded out.

Reference:
    [Post, Vilar 2018](https://arxiv.org/abs/1804.06609), dynamic beam allocation; banks and
    phrases after [Hokamp, Liu 2017](https://arxiv.org/abs/1704.07138).
"""

from typing import Any, NamedTuple

from keras import ops

from keras_luong.search.largest import largest

Tensor = Any


class Phrases(NamedTuple):
    """The phrases of a batch against hypotheses before a step.

    Attributes:
        ids: int32 `(b, c, l)`: c phrases of at most l tokens, below 0 after their end.
        met: Boolean `(b, k, c)`: which phrases the hypotheses hold; those of no token are.
        begun: For every number of tokens below l, boolean `(b, k, c)`: whether a hypothesis ends
            with that many first tokens of a phrase.
    """

    ids: Tensor
    met: Tensor
    begun: list[Tensor]

    @property
    def lengths(self) -> Tensor:
        """int32 `(b, 1, c)`."""
        return ops.sum(ops.cast(self.ids >= 0, "int32"), axis=-1)[:, None]

    @property
    def banks(self) -> int:
        """How many banks there may be."""
        return self.ids.shape[1] * self.ids.shape[2] + 1

    @classmethod
    def of(cls, phrases: Tensor, ids: Tensor, step: Any) -> "Phrases":
        """Phrases `(b, c, l)` against hypotheses of `step` tokens, `(b, k, t)`."""
        begun = [_ends_with(phrases[..., :n], ids, step) for n in range(phrases.shape[2])]
        return cls(phrases, _holds(phrases, ids, step), begun)

    def after(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What candidate tokens `(b, k, n)` make of the phrases.

        Returns:
            Whether all are met, boolean `(b, k, n)`, and the bank, int32 `(b, k, n)`.
        """
        met = ops.broadcast_to(self.met[:, :, None], (*ops.shape(tokens), self.ids.shape[1]))
        partial = ops.zeros_like(met, dtype="int32")
        lengths = self.lengths[:, :, None]
        for n, begun in enumerate(self.begun):
            following = self.ids[:, None, None, :, n]
            is_next = ops.logical_and(begun[:, :, None], ops.equal(tokens[..., None], following))
            partial = ops.where(is_next, n + 1, partial)
            met = ops.logical_or(met, ops.logical_and(is_next, ops.equal(lengths, n + 1)))
        of_met = ops.sum(ops.where(met, lengths, 0), axis=-1)
        return ops.all(met, axis=-1), of_met + ops.max(ops.where(met, 0, partial), axis=-1)

    def next_tokens(self) -> Tensor:
        """All tokens of phrases, int32 `(b, 1, c l)`: whatever may lead on is among them."""
        batch, count, length = ops.shape(self.ids)
        return ops.reshape(self.ids, (batch, 1, count * length))


def allocated(scores: Tensor, banks: Tensor, bank_count: int, width: int) -> Tensor:
    """Indices `(b, width)` of the candidates `(b, n)` that get a slot, best score first.

    Where there are too few, the last index stands: what is there must have no score.
    """
    by_bank, ranks = [], []
    size = min(width, scores.shape[-1])
    for bank in reversed(range(bank_count)):
        of_bank, found = largest(ops.where(ops.equal(banks, bank), scores, -float("inf")), size)
        by_bank.append(found)
        # The n-th of all banks, fullest first, before the n + 1st of any; what is not there, last.
        turn = ops.arange(size, dtype="int32") * bank_count + (bank_count - 1 - bank)
        ranks.append(ops.where(of_bank > -float("inf"), turn, size * bank_count))
    candidates, order = ops.concatenate(by_bank, axis=-1), ops.concatenate(ranks, axis=-1)
    _, first = largest(-order, width)
    is_real = ops.take_along_axis(order, first, axis=-1) < size * bank_count
    chosen = ops.take_along_axis(candidates, first, axis=-1)
    # Sorted by place first, so that equal scores keep the order of their places.
    chosen = ops.sort(ops.where(is_real, chosen, scores.shape[-1] - 1), axis=-1)
    _, best_first = largest(ops.take_along_axis(scores, chosen, axis=-1), width)
    return ops.take_along_axis(chosen, best_first, axis=-1)


def _holds(phrases: Tensor, ids: Tensor, step: Any) -> Tensor:
    """Which phrases `(b, c, l)` hypotheses `(b, k, t)` of `step` tokens hold, `(b, k, c)`."""
    length = phrases.shape[-1]
    places = ops.arange(ids.shape[-1], dtype="int32")
    ids = ops.where(places < step, ids, -1)
    ids = ops.concatenate([ids, ops.full_like(ids[..., :1], -1)], axis=-1)
    held = ops.ones((), "bool")
    for place in range(length):
        # Beyond the last token stands none that could be equal.
        at = ops.minimum(places + place, ids.shape[-1] - 1)
        token, wanted = ops.take(ids, at, axis=-1)[:, :, None], phrases[:, None, :, place, None]
        held = ops.logical_and(held, ops.logical_or(wanted < 0, ops.equal(token, wanted)))
    return ops.any(held, axis=-1)


def _ends_with(beginning: Tensor, ids: Tensor, step: Any) -> Tensor:
    """Which of `(b, c, n)` hypotheses `(b, k, t)` of `step` tokens end with, `(b, k, c)`."""
    length = beginning.shape[-1]
    held = ops.ones((*ops.shape(ids)[:2], beginning.shape[1]), "bool")
    for place in range(length):
        at = step - length + place
        token = ops.take(ids, ops.clip(at, 0, ids.shape[-1] - 1), axis=-1)[..., None]
        is_equal = ops.logical_and(ops.equal(token, beginning[:, None, :, place]), at >= 0)
        held = ops.logical_and(held, is_equal)
    return held
