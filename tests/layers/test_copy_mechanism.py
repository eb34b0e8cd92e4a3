"""`CopyMechanism`: against a loop in NumPy, its ids, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import CopyMechanism
from tests.layers.layer_checks import check_config, dtype_of, to_numpy

BATCH, STEPS, LENGTH, WORDS, UNITS, DEPTH = 2, 3, 5, 9, 4, 6
# Word 5 stands twice, padding follows; in the second sentence an id that has no target.
SOURCE = np.array([[5, 4, 5, 3, 0], [6, 1, 3, 0, 0]], "int32")
TARGET_IDS = [-1, 1, 2, 3, 8, 7, -1]


def random(*shape):
    return np.random.default_rng(list(shape)).normal(size=shape).astype("float32")


def arrays():
    weights = np.exp(random(BATCH, STEPS, LENGTH)) * (SOURCE > 0)[:, None]
    return {
        "logits": random(BATCH, STEPS, WORDS),
        "attention_vectors": random(BATCH, STEPS, UNITS),
        "attention_scores": weights / weights.sum(axis=-1, keepdims=True),
        "memory": random(BATCH, LENGTH, DEPTH),
    }


def by_loops(layer, arrays, copied):
    """Equations 8 and 9 word by word, in float64; `copied` says what a source id is copied to."""
    context_kernel, vector_kernel, bias = (
        np.asarray(one, "float64").ravel() for one in layer.get_weights()
    )
    logits, vectors, scores, memory = (np.asarray(one, "float64") for one in arrays.values())
    probabilities = np.zeros((BATCH, STEPS, WORDS + layer.max_unknown_words))
    for b in range(BATCH):
        for t in range(STEPS):
            context = sum(scores[b, t, s] * memory[b, s] for s in range(LENGTH))
            gate = context @ context_kernel + vectors[b, t] @ vector_kernel + bias[0]
            generate = 1 / (1 + np.exp(-gate))
            exps = np.exp(logits[b, t])
            probabilities[b, t, :WORDS] = generate * exps / exps.sum()
            for s, word in enumerate(SOURCE[b].tolist()):
                if word in copied:
                    probabilities[b, t, copied[word]] += (1 - generate) * scores[b, t, s]
    return probabilities


@pytest.mark.parametrize(
    ("options", "copied"),
    [
        ({}, {1: 1, 3: 3, 4: 4, 5: 5, 6: 6}),
        ({"target_ids": TARGET_IDS}, {1: 1, 3: 3, 4: 8, 5: 7}),
        # The vocabulary has the ids to 4: the two behind it are unknown words of a sentence.
        (
            {"target_ids": TARGET_IDS[:5], "max_unknown_words": 2},
            {1: 1, 3: 3, 4: 8, 5: WORDS, 6: WORDS + 1},
        ),
    ],
    ids=["one_vocabulary", "two", "unknown_words"],
)
def test_against_loops(options, copied):
    layer, given = CopyMechanism(WORDS, **options), arrays()
    log_probs = layer(**given, copied_ids=layer.copied_ids(SOURCE))
    layer.set_weights([random(*one.shape) for one in layer.get_weights()])
    log_probs = layer(**given, copied_ids=layer.copied_ids(SOURCE))
    expected = by_loops(layer, given, copied)
    np.testing.assert_allclose(np.exp(to_numpy(log_probs)[0]), expected, atol=1e-6)


def test_unknown_words_are_read_as_the_unknown_id():
    layer = CopyMechanism(WORDS, TARGET_IDS[:5], max_unknown_words=2, unknown_id=2)
    source, target = np.array([[4, 5, 6, 3, 0]]), np.array([[8, 9, 10, 3, 0]])
    assert ops.convert_to_numpy(layer.known_source(source)).tolist() == [[4, 2, 2, 3, 0]]
    assert ops.convert_to_numpy(layer.known_target(target)).tolist() == [[8, 2, 2, 3, 0]]
    # Those of unknown words in their order, one that is beyond, padding.
    ids = ops.convert_to_numpy(layer.copied_ids(np.array([[4, 5, 6, 7, 0]])))
    assert ids.tolist() == [[8, 9, 10, -1, -1]]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_has_log_probabilities_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    layer = CopyMechanism(WORDS)
    half = {name: ops.cast(one, layer.compute_dtype) for name, one in arrays().items()}
    log_probs = layer(**half, copied_ids=layer.copied_ids(SOURCE))
    assert dtype_of(log_probs) == "float32" == dtype_of(layer.bias)
    sums = np.exp(to_numpy(log_probs)[0]).sum(axis=-1)
    np.testing.assert_allclose(sums, 1.0, atol=0.02)


def test_config():
    layer = CopyMechanism(WORDS, np.array(TARGET_IDS), max_unknown_words=2, unknown_id=2)
    check_config(layer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CopyMechanism(0), "`vocabulary_size`.*at least 1. Received: 0"),
        (lambda: CopyMechanism(9, [1, 9]), "the largest 9 with vocabulary_size=9"),
        (lambda: CopyMechanism(9, [1.0]), "dtype float64"),
        (lambda: CopyMechanism(9, [[1]]), r"shape \(1, 1\)"),
        (
            lambda: CopyMechanism(8)(**arrays(), copied_ids=SOURCE),
            r"logits of 8 ids.*Received shape \(2, 3, 9\)",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
