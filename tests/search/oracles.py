"""Searches from their definitions, in Python: one sentence, one hypothesis, one token at a time.

A model is a table: the ids so far lead to a node, and a node has logits and attention scores.
"""

import dataclasses
import itertools
import math

import numpy as np

END = 0
# What reaches a source position that nothing was given to.
SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022}


@dataclasses.dataclass
class Sentence:
    """A model of one sentence, and what is asked of the search.

    Attributes:
        logits: `(nodes, v)`.
        attention: `(nodes, s)`.
        factor: A node is `(the one before * factor + id) % nodes`; 0 for a Markov chain.
        start: The id before the first.
        max_length: Of the call.
        kept: Which source positions are kept, `(s,)`.
        prefix: Forced ids, below 0 where there is none.
        phrases: Lists of ids that must appear.
        alpha: That of the sentence, or `None` for that of the search.
    """

    logits: np.ndarray
    attention: np.ndarray
    factor: int
    start: int
    max_length: int
    kept: np.ndarray
    prefix: list = ()
    phrases: list = ()
    alpha: float | None = None

    def nodes(self, ids):
        """The node before each of the ids, and the one after the last."""
        node = 0
        for one in [self.start, *ids]:
            node = (node * self.factor + one) % len(self.logits)
            yield node

    def limit(self, search):
        if search.max_length_factor is None:
            return self.max_length
        # In hundredths, as people write it: 0.15 times 100 is 15.
        hundredths = round(search.max_length_factor * 100) * int(self.kept.sum())
        return max(1, min(self.max_length, -(-hundredths // 100)))


def log_softmax(logits):
    peak = max(logits)
    return [
        one - peak - math.log(sum(math.exp(other - peak) for other in logits)) for one in logits
    ]


def penalized(logits, ids, penalty):
    """Positive logits of the tokens there are divided by the penalty, negative ones multiplied."""
    return [
        one if token not in ids else one / penalty if one > 0 else one * penalty
        for token, one in enumerate(logits)
    ]


def sums(search, sentence, ids):
    """Of the tokens' log-probabilities: the model's, and what ranks."""
    of_model = of_search = 0.0
    for place, node in zip(range(len(ids)), sentence.nodes(ids), strict=False):
        logits = sentence.logits[node].tolist()
        of_model += log_softmax(logits)[ids[place]]
        weighed = penalized(logits, ids[:place], search.repetition_penalty)
        of_search += log_softmax(weighed)[ids[place]]
    return of_model, of_search


def attention(sentence, ids):
    """The attention scores of the hypothesis's steps, `(t, s)`."""
    return [sentence.attention[node] for node in itertools.islice(sentence.nodes(ids), len(ids))]


def length_penalty(search, sentence, length):
    alpha = search.alpha if sentence.alpha is None else sentence.alpha
    return {"none": 1.0, "average": length, "gnmt": ((5 + length) / 6) ** alpha}[
        search.length_penalty
    ]


def coverage(sentence, ids, smallest):
    found = 0.0
    for position in np.flatnonzero(sentence.kept):
        got = sum(row[position] for row in attention(sentence, ids))
        found += math.log(min(max(got, smallest), 1.0))
    return found


def score(search, sentence, ids, total, is_over, smallest=SMALLEST["float32"]):
    """What ranks a hypothesis whose ranking sum is `total`."""
    if not hasattr(search, "length_penalty"):
        return total
    found = total / length_penalty(search, sentence, len(ids))
    if search.beta and is_over:
        found += search.beta * coverage(sentence, ids, smallest)
    return found


def is_allowed(search, sentence, ids):
    """Whether a hypothesis, ended or not, keeps the rules on tokens. None is mended by more ids."""
    if set(ids) & set(search.banned_ids):
        return False
    n = search.no_repeat_ngram_size
    grams = [tuple(ids[place : place + n]) for place in range(len(ids) - n + 1)] if n else []
    if len(set(grams)) < len(grams):
        return False
    forced = zip(ids, sentence.prefix, strict=False)
    if any(wanted >= 0 and one != wanted for one, wanted in forced):
        return False
    return not (ids and ids[-1] == END and len(ids) < search.min_length)


def holds_phrases(sentence, ids):
    return all(
        any(
            list(ids[place : place + len(phrase)]) == list(phrase)
            for place in range(len(ids) - len(phrase) + 1)
        )
        for phrase in sentence.phrases
    )


def enumerated(search, sentence):
    """Every hypothesis that may come back, best first: `[(score, log_probs, ids)]`."""
    found, limit = [], sentence.limit(search)

    def grow(ids):
        for token in range(sentence.logits.shape[1]):
            longer = [*ids, token]
            if not is_allowed(search, sentence, longer):
                continue
            if token != END and len(longer) < limit:
                grow(longer)
            elif holds_phrases(sentence, longer):
                log_probs, total = sums(search, sentence, longer)
                if total > -math.inf:
                    found.append((score(search, sentence, longer, total, True), log_probs, longer))

    grow([])
    return sorted(found, key=lambda one: -one[0])


# ---------------------------------------------------------------------------------------------
# Beam search, slot by slot
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Slot:
    """A hypothesis in a slot; an empty slot is `None`."""

    ids: list
    log_probs: float
    total: float
    score: float
    is_done: bool


@dataclasses.dataclass
class Candidate(Slot):
    """What a slot may hold next. `token` is `None` if the hypothesis had ended before."""

    token: int | None = None


def beam_searched(search, sentence):
    """The hypotheses that come back, best first, by the docstrings of `BeamSearch`.

    `early_stopping="never"` is said to change nothing: here all run until they end.
    """
    slots, limit = [Slot([], 0.0, 0.0, 0.0, False)], sentence.limit(search)
    while any(slot and not slot.is_done for slot in slots):
        slots = _stopped(search, _chosen(search, sentence, slots, limit))
    return _distinct(sorted(filter(None, slots), key=lambda slot: -slot.score))[: search.n_best]


def _candidates(search, sentence, slots, limit):
    """In the order of slots, then of ids."""
    found = []
    for slot in filter(None, slots):
        if slot.is_done:
            fields = {field.name: getattr(slot, field.name) for field in dataclasses.fields(Slot)}
            found.append(Candidate(**fields))
            continue
        *_, node = sentence.nodes(slot.ids)
        logits = sentence.logits[node].tolist()
        of_model = log_softmax(logits)
        of_search = log_softmax(penalized(logits, slot.ids, search.repetition_penalty))
        for token in range(len(logits)):
            ids, total = [*slot.ids, token], slot.total + of_search[token]
            is_over = token == END or len(ids) == limit
            if not is_allowed(search, sentence, ids) or total == -math.inf:
                continue
            if is_over and not holds_phrases(sentence, ids):
                continue
            of_ids = score(search, sentence, ids, total, is_over)
            log_probs = slot.log_probs + of_model[token]
            found.append(Candidate(ids, log_probs, total, of_ids, is_over, token))
    return found


def _chosen(search, sentence, slots, limit):
    if sentence.phrases:
        return _allocated(search, sentence, _candidates(search, sentence, slots, limit))
    chosen, taken, size = [], [], search.beam_width // search.num_groups
    for group in range(search.num_groups):
        own = slots if len(slots) == 1 else slots[group * size : (group + 1) * size]
        found = []
        for one in _candidates(search, sentence, own, limit):
            loss = 0 if one.token is None else search.diversity * taken.count(one.token)
            found.append((one.score - loss, one))
        best = [one for _, one in sorted(found, key=lambda pair: -pair[0])[:size]]
        taken += [one.token for one in best if one.token is not None]
        chosen += best + [None] * (size - len(best))
    return chosen


def bank(sentence, ids):
    """Tokens of phrases that a hypothesis has: of those it holds, and of one that it has begun."""
    of_met, of_begun = 0, 0
    for phrase in sentence.phrases:
        if holds_phrases(dataclasses.replace(sentence, phrases=[phrase]), ids):
            of_met += len(phrase)
            continue
        for n in range(1, len(phrase)):
            if list(ids[-n:]) == list(phrase[:n]):
                of_begun = max(of_begun, n)
    return of_met + of_begun


def _allocated(search, sentence, candidates):
    banks = {}
    for one in sorted(candidates, key=lambda one: -one.score):
        banks.setdefault(bank(sentence, one.ids), []).append(one)
    chosen = []
    for turn in range(search.beam_width):
        for _, members in sorted(banks.items(), reverse=True):
            chosen += members[turn : turn + 1]
    chosen = {id(one) for one in chosen[: search.beam_width]}
    # In the order of slots and ids, so that equal scores keep it.
    kept = sorted((one for one in candidates if id(one) in chosen), key=lambda one: -one.score)
    return kept + [None] * (search.beam_width - len(kept))


def _distinct(slots):
    found = {}
    for slot in slots:
        found.setdefault(tuple(slot.ids), slot)
    return list(found.values())


def _stopped(search, slots):
    """Drops what runs once the rule of `early_stopping` says so."""
    ended = _distinct([slot for slot in slots if slot and slot.is_done])
    running = [slot for slot in slots if slot and not slot.is_done]
    if search.early_stopping == "never" or len(ended) < search.n_best:
        return slots
    last_best = sorted((slot.score for slot in ended), reverse=True)[search.n_best - 1]
    if search.early_stopping is True or all(slot.score < last_best for slot in running):
        return [slot if slot and slot.is_done else None for slot in slots]
    return slots
