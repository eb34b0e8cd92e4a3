"""The mixture of generated and copied words."""

import numpy as np
import pytest
from keras import ops

from keras_luong import functional
from tests.functional.tools import (
    DTYPE,
    GRADIENT_TOLERANCE,
    TOLERANCE,
    compiled,
    gradients_of,
    gradients_under_xla,
    random,
    tensor,
    weighted,
)
from tests.layers.layer_checks import dtype_of, to_numpy
from tests.reference import central_differences

# Words that stand twice, one that is no word of the vocabulary, padding.
IDS = np.array([[4, 1, 4, 9, 0], [2, 3, -1, -1, -1]], "int32")
BATCH, STEPS, WORDS = 2, 3, 6


def arguments():
    logits, gate = random(BATCH, STEPS, WORDS), random(BATCH, STEPS, 1)
    weights = np.exp(random(BATCH, STEPS, IDS.shape[1]))
    weights[1, :, 2:] = 0.0
    weights[0, 1, 1] = 0.0  # in the source, and not looked at
    return logits, gate, weights / weights.sum(axis=-1, keepdims=True)


def by_loops(logits, gate, scores, ids=IDS, num_copied_alone=0):
    # A word that is not generated has no logit.
    logits = np.pad(logits, [(0, 0), (0, 0), (0, num_copied_alone)], constant_values=-np.inf)
    log_probs = np.zeros(logits.shape)
    for b, t in np.ndindex(logits.shape[:2]):
        generate = 1 / (1 + np.exp(-gate[b, t, 0]))
        for w in range(logits.shape[2]):
            copied = sum(scores[b, t, s] for s in range(ids.shape[1]) if ids[b, s] == w)
            softmax = np.exp(logits[b, t, w]) / np.exp(logits[b, t]).sum()
            log_probs[b, t, w] = np.log(generate * softmax + (1 - generate) * copied)
    return log_probs


def of(*given, ids=IDS, dtype=DTYPE, **options):
    tensors = [tensor(one, dtype) for one in given]
    return to_numpy(functional.copy_log_probs(*tensors, tensor(ids, "int32"), **options))[0]


def test_worked_by_hand():
    # Half is generated, evenly; 3/4 of what is copied is word 2, the rest word 0.
    log_probs = of(np.zeros((1, 1, 4)), np.zeros((1, 1, 1)), [[[0.5, 0.25, 0.25]]], ids=[[2, 0, 2]])
    expected = [0.125 + 0.125, 0.125, 0.125 + 0.375, 0.125]
    np.testing.assert_allclose(np.exp(log_probs[0, 0]), expected, atol=1e-6)


def test_against_loops():
    given = arguments()
    np.testing.assert_allclose(of(*given), by_loops(*given), atol=TOLERANCE)
    # Id 9 is no word: the share of the copies that looks at it is missing.
    sums = np.exp(of(*given)).sum(axis=-1)
    missing = (1 - 1 / (1 + np.exp(-given[1][..., 0]))) * given[2][..., 3] * [[1.0], [0.0]]
    np.testing.assert_allclose(sums, 1 - missing, atol=TOLERANCE)


@pytest.mark.parametrize("gradients", [gradients_of, gradients_under_xla])
def test_gradients(gradients):
    given, upstream = [one.astype(DTYPE) for one in arguments()], random(BATCH, STEPS, WORDS)

    def loss(logits, gate, scores):
        return weighted(
            functional.copy_log_probs(logits, gate, scores, tensor(IDS, "int32")), upstream
        )

    double = [one.astype("float64") for one in given]
    for index, gradient in enumerate(gradients(loss, given)):
        expected = central_differences(lambda: np.sum(upstream * by_loops(*double)), double[index])
        # Where nothing is looked at there is no slope to follow: a score of 0 stays what it is.
        kept = double[index] > 0 if index == 2 else np.ones(gradient.shape, bool)
        np.testing.assert_allclose(gradient[kept], expected[kept], atol=GRADIENT_TOLERANCE)
        assert not gradient[~kept].any()


def test_probabilities_of_nothing_give_numbers_and_gradients():
    # The softmax underflows, nothing is looked at, and gates are as good as shut, either way.
    logits = np.array([[[0.0, -1e4, -3e4, 5.0]] * 4], "float32")
    gate = np.array([[[-200.0], [200.0], [-3e4], [0.0]]], "float32")
    scores = np.array([[[0.0, 0.0], [1.0, 0.0], [2e-38, 0.0], [0.0, 0.0]]], "float32")
    ids = np.array([[1, 2]], "int32")

    def loss(*given):
        return ops.sum(functional.copy_log_probs(*given, tensor(ids, "int32")))

    log_probs = of(logits, gate, scores, ids=ids, dtype="float32")
    assert np.isfinite(log_probs).all()
    # A copy of what is not in the softmax: its own score and its gate, to the last digit.
    np.testing.assert_allclose(log_probs[0, 2, 1], np.log(2e-38), rtol=1e-6)
    for gradient in gradients_of(loss, [logits, gate, scores]):
        assert np.isfinite(gradient).all()


def test_words_that_are_ruled_out_can_be_copied_alone():
    given = np.array([[[0.0, -np.inf, -np.inf]]]), np.zeros((1, 1, 1)), [[[1.0]]]
    np.testing.assert_allclose(np.exp(of(*given, ids=[[1]]))[0, 0], [0.5, 0.5, 0.0], atol=1e-6)


def test_words_that_are_copied_alone():
    given = arguments()
    log_probs = of(*given, num_copied_alone=4)
    # Id 9, in the source of the first sentence, is the last of them.
    with np.errstate(divide="ignore"):
        expected = np.exp(by_loops(*given, num_copied_alone=4))
    assert expected[0, :, 9].all() and not expected[1, :, WORDS:].any()
    np.testing.assert_allclose(np.exp(log_probs), expected, atol=TOLERANCE)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, atol=TOLERANCE)
    assert np.isfinite(log_probs).all()


def test_compiled_and_in_half_precision():
    given = [tensor(one, "bfloat16") for one in arguments()]
    log_probs = compiled(functional.copy_log_probs)(*given, tensor(IDS, "int32"))
    assert dtype_of(log_probs) == "float32"
    rounded = [ops.convert_to_numpy(ops.cast(one, "float32")) for one in given]
    np.testing.assert_allclose(to_numpy(log_probs)[0], by_loops(*rounded), atol=1e-4)
