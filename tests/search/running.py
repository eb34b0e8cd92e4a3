"""Random models of many sentences, run by the searches as their backend compiles them."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_luong.search import SearchResult
from tests.search.oracles import (
    END,
    Sentence,
    attention,
    beam_searched,
    holds_phrases,
    is_allowed,
    score,
    sums,
)

BACKEND = keras.backend.backend()


@dataclasses.dataclass
class Tables:
    """Models of b sentences: see `Sentence`. What is shared with the step leads with b.

    Attributes:
        logits: `(b, nodes, v)`.
        attention: `(b, nodes, s)`.
        kept: Boolean `(b, s)`.
        factor: 0 for a Markov chain.
        start: The id before the first.
    """

    logits: np.ndarray
    attention: np.ndarray
    kept: np.ndarray
    factor: int = 7
    start: int = 1

    def __len__(self):
        return len(self.logits)

    def sentence(self, row, max_length, prefix=None, constraints=None, alpha=None, **_):
        phrases = [] if constraints is None else constraints[row].tolist()
        return Sentence(
            self.logits[row].astype("float64"),
            self.attention[row].astype("float64"),
            self.factor,
            self.start,
            max_length,
            self.kept[row],
            [] if prefix is None else prefix[row].tolist(),
            [[one for one in phrase if one >= 0] for phrase in phrases],
            None if alpha is None else float(alpha[row]),
        )

    def rows(self, chosen):
        return dataclasses.replace(
            self,
            logits=self.logits[chosen],
            attention=self.attention[chosen],
            kept=self.kept[chosen],
        )


def random_tables(seed, batch, vocabulary=4, source=3, nodes=101, scale=1.5, dtype="float32"):
    """Sources of one to all positions, attention scores that are a softmax over them."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(batch, nodes, vocabulary))
    kept = np.arange(source) < rng.integers(1, source + 1, size=(batch, 1))
    weights = np.exp(2 * rng.normal(size=(batch, nodes, source))) * kept[:, None]
    weights /= weights.sum(axis=-1, keepdims=True)
    return Tables(logits.astype(dtype), weights.astype(dtype), kept)


def even_tables(seed, batch):
    """In every node two or three tokens of four are equally probable, as many in all of a sentence.

    So hypotheses of one length have one score, to the last bit.
    """
    rng, tables = np.random.default_rng(seed), random_tables(seed, batch)
    order = rng.permuted(np.broadcast_to(np.arange(4), tables.logits.shape), axis=-1)
    count = rng.integers(2, 4, size=(batch, 1, 1))
    logits = np.where(order < count, 0.0, -np.inf).astype("float32")
    return dataclasses.replace(tables, logits=logits)


def chain(table, start, batch=1):
    """A Markov chain of probabilities, the row of a table at the last id; the rows are alike."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.asarray(table, "float32"))
    logits = np.broadcast_to(logits, (batch, *logits.shape))
    ones = np.ones((batch, len(table), 1), "float32")
    return Tables(logits, ones, np.ones((batch, 1), bool), factor=0, start=start)


def step_of(factor, gives_attention=True):
    """The step of tables, for hypotheses `(b, k)`; its state is a dictionary."""

    def at(table, nodes):
        batch, count, depth = ops.shape(table)
        rows = ops.arange(batch, dtype="int32")[:, None] * count + nodes
        return ops.take(ops.reshape(table, (batch * count, depth)), rows, axis=0)

    def step(ids, state, shared):
        logits, weights = shared
        # Never copied for the hypotheses.
        assert logits.shape[0] == weights.shape[0] == ids.shape[0]
        nodes = (state["node"][..., 0] * factor + ids) % logits.shape[1]
        result = at(logits, nodes), {"node": nodes[..., None]}
        return (*result, at(weights, nodes)) if gives_attention else result

    return step


def searched(search, tables, max_length, jit_compile=False, gives_attention=True, **inputs):
    """A search over tables, compiled: its result in NumPy."""
    names, jit_compile = tuple(inputs), jit_compile and BACKEND == "tensorflow"
    run = _compiled(
        search, tables.factor, tables.start, max_length, jit_compile, gives_attention, names
    )
    arrays = [tables.logits, tables.attention, tables.kept, *inputs.values()]
    return to_numpy(run(*map(ops.convert_to_tensor, arrays)))


def uncompiled(search, tables, max_length, step=None, **inputs):
    """`searched`, one operation after the other, on a step of your own if you like."""
    arrays = [tables.logits, tables.attention, tables.kept, *inputs.values()]
    run = _run(search, step or step_of(tables.factor), tables.start, max_length, tuple(inputs))
    return to_numpy(run(*map(ops.convert_to_tensor, arrays)))


@functools.cache
def _compiled(search, factor, start, max_length, jit_compile, gives_attention, names):
    run = _run(search, step_of(factor, gives_attention), start, max_length, names)
    return compiled(run, jit_compile)


def _run(search, step, start, max_length, names):
    def run(logits, weights, kept, *inputs):
        batch = logits.shape[0]
        return search(
            step,
            {"node": ops.zeros((batch, 1, 1), "int32")},
            (logits, weights),
            start_ids=ops.full((batch, 1), start, "int32"),
            end_id=END,
            max_length=max_length,
            source_mask=kept,
            **dict(zip(names, inputs, strict=True)),
        )

    return run


def compiled(function, jit_compile=False):
    """`tf.function` (which XLA compiles, if asked to), `jax.jit`, or torch as it is."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        assert not (jit_compile and tf.config.functions_run_eagerly()), "mark the test as `traced`"
        return tf.function(function, jit_compile=jit_compile)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.no_grad()(function)


def to_numpy(result):
    return SearchResult(
        *(None if field is None else ops.convert_to_numpy(field) for field in result)
    )


# ---------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------


def hypotheses(result, row):
    """The ids of a sentence's hypotheses, those that there are."""
    pairs = zip(result.ids[row].tolist(), result.lengths[row].tolist(), strict=True)
    return [ids[:length] for ids, length in pairs if length]


def check_result(search, result, tables, max_length, sorts=True, **inputs):
    """Everything that comes back is what the definitions make of its ids, and keeps all rules."""
    for row in range(len(tables)):
        sentence = tables.sentence(row, max_length, **inputs)
        found = hypotheses(result, row)
        for n, ids in enumerate(found):
            assert is_allowed(search, sentence, ids) and holds_phrases(sentence, ids), (row, ids)
            assert END not in ids[:-1] and len(ids) <= sentence.limit(search)
            # Nothing is left running.
            early = getattr(search, "early_stopping", "never") != "never"
            assert ids[-1] == END or len(ids) == sentence.limit(search) or early
            assert result.ids[row, n, len(ids) :].tolist() == [END] * (max_length - len(ids))
            log_probs, total = sums(search, sentence, ids)
            expected = score(search, sentence, ids, total, True)
            np.testing.assert_allclose(result.log_probs[row, n], log_probs, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(result.scores[row, n], expected, rtol=1e-4, atol=1e-4)
            if result.attention_scores is not None:
                filled = np.zeros((max_length, len(sentence.kept)))
                filled[: len(ids)] = attention(sentence, ids)
                np.testing.assert_allclose(result.attention_scores[row, n], filled, atol=1e-6)
        # What is empty comes last, and holds nothing.
        count = len(found)
        assert not result.lengths[row, count:].any()
        assert (result.scores[row, count:] == -np.inf).all()
        assert (result.log_probs[row, count:] == -np.inf).all()
        assert (result.ids[row, count:] == END).all()
        if result.attention_scores is not None:
            assert not result.attention_scores[row, count:].any()
        scores = result.scores[row, :count]
        assert (scores[1:] <= scores[:-1]).all()


def check_equals_plain_python(search, result, tables, max_length, **inputs):
    """A beam search against one that goes slot by slot."""
    for row in range(len(tables)):
        expected = beam_searched(search, tables.sentence(row, max_length, **inputs))
        assert hypotheses(result, row) == [slot.ids for slot in expected], row
        expected = [[slot.score, slot.log_probs] for slot in expected]
        found = np.stack([result.scores[row], result.log_probs[row]], axis=-1)[: len(expected)]
        np.testing.assert_allclose(found, np.reshape(expected, (-1, 2)), rtol=1e-4, atol=1e-4)


def check_distinct(result):
    for row in range(len(result.ids)):
        found = [tuple(ids) for ids in hypotheses(result, row)]
        assert len(set(found)) == len(found)
