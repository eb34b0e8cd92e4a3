"""A search whose batch shrinks finds what the one finds that computes every sentence to the end."""

import functools

import numpy as np
import pytest
from keras import ops

from keras_luong.search import BeamSearch, GreedySearch, SamplingSearch
from tests.search.oracles import END
from tests.search.running import BACKEND, random_tables, searched, step_of, to_numpy

pytestmark = [
    pytest.mark.skipif(BACKEND == "jax", reason="On JAX every size is known for good"),
    pytest.mark.traced,
]

BATCH, MAX_LENGTH = 13, 9
PREFIX = np.random.default_rng(1).integers(-1, 4, size=(BATCH, 2)).astype("int32")
PHRASES = np.random.default_rng(2).integers(1, 4, size=(BATCH, 1, 2)).astype("int32")
ALPHA = np.linspace(0, 2, BATCH).astype("float32")
SEEDS = np.arange(BATCH, dtype="int32") * 7

CASES = {
    "greedy": (GreedySearch(), {}),
    "greedy with a prefix": (GreedySearch(no_repeat_ngram_size=2), {"prefix": PREFIX}),
    "beam": (BeamSearch(3), {}),
    "beam with penalties": (
        BeamSearch(4, length_penalty="gnmt", alpha=0.6, beta=0.3, max_length_factor=2.0),
        {"alpha": ALPHA},
    ),
    "groups": (BeamSearch(4, num_groups=2, diversity=0.5, early_stopping=True), {}),
    "phrases": (BeamSearch(4, banned_ids=()), {"constraints": PHRASES}),
    "sampling": (SamplingSearch(num_samples=2), {"seed": SEEDS}),
}


def shrunk(search, tables, inputs, step=None, traced=True):
    """The result of a search whose batch shrinks, on TensorFlow traced for any size of batch."""
    arrays = [tables.logits, tables.attention, tables.kept, *inputs.values()]
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    arguments = search, step, tables.factor, tables.start, tuple(inputs)
    if BACKEND != "tensorflow" or not traced:
        return to_numpy(_run(*arguments)(*tensors))
    sizes = tuple((None, *one.shape[1:]) for one in tensors)
    return to_numpy(_traced(sizes, tuple(one.dtype for one in tensors), *arguments)(*tensors))


@functools.cache
def _traced(sizes, dtypes, *arguments):
    import tensorflow as tf

    specs = [tf.TensorSpec(*spec) for spec in zip(sizes, dtypes, strict=True)]
    return tf.function(_run(*arguments), input_signature=specs)


def _run(search, step, factor, start, names):
    def run(logits, weights, kept, *given):
        batch = ops.shape(logits)[0]
        return search(
            step or step_of(factor),
            {"node": ops.zeros((batch, 1, 1), "int32")},
            (logits, weights),
            start_ids=ops.full((batch, 1), start, "int32"),
            end_id=END,
            max_length=MAX_LENGTH,
            source_mask=kept,
            shrinks=True,
            **dict(zip(names, given, strict=True)),
        )

    return run


@pytest.mark.parametrize("case", CASES)
def test_results_are_the_same(case):
    search, inputs = CASES[case]
    for seed in range(3):
        tables = random_tables(seed, BATCH)
        found = shrunk(search, tables, inputs)
        expected = searched(search, tables, MAX_LENGTH, **inputs)
        for name, one in found._asdict().items():
            other = getattr(expected, name)
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)


def test_sentences_that_are_done_are_computed_no_further():
    tables, sizes = random_tables(5, BATCH), []
    plain = step_of(tables.factor)

    def step(ids, state, shared):
        sizes.append(ids.shape[0])
        return plain(ids, state, shared)

    result = shrunk(GreedySearch(), tables, {}, step, traced=False)
    lengths = result.lengths[:, 0]
    assert len(sizes) == lengths.max() and len(set(sizes)) > 1
    for index, size in enumerate(sizes):
        # All that are not done run, and never as many again that are.
        left = (lengths > index).sum()
        assert left <= size and (size == BATCH or size < 2 * max(left, 1) + 1)
