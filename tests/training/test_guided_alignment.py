"""Guided alignment: the loss against its equation, alignments of subwords, and a training."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import MaskedCrossentropy, luong_seq2seq
from keras_luong.training import GuidedAlignment, read_gold_alignments, subword_alignments
from tests.labelled import Labelled
from tests.reference import automatic_gradients, central_differences

BATCH, TARGET, SOURCE = 2, 4, 3


def loss_of(alignments, scores):
    """Chen et al. (2016): the mean over aligned steps, one step at a time."""
    costs = []
    for row, of_row in zip(alignments.reshape(-1, SOURCE), scores.reshape(-1, SOURCE), strict=True):
        if row.sum():
            pairs = zip(row, of_row, strict=True)
            costs.append(-sum(a / row.sum() * np.log(score) for a, score in pairs if a))
    return sum(costs) / len(costs) if costs else 0.0


def random_scores():
    powers = np.exp(np.random.default_rng(1).normal(size=(BATCH, TARGET, SOURCE)))
    return powers / powers.sum(axis=-1, keepdims=True)


# None, one, two and all source words; weights; and padding.
ALIGNMENTS = np.array(
    [
        [[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]],
        [[0.2, 0, 0.6], [0, 0, 1], [0, 0, 0], [0, 0, 0]],
    ]
)


def test_the_equation_and_its_gradient():
    scores = random_scores()
    found = float(GuidedAlignment()(ALIGNMENTS, scores.astype("float32")))
    np.testing.assert_allclose(found, loss_of(ALIGNMENTS, scores), rtol=1e-6)
    ((gradient,), _) = automatic_gradients(
        lambda scores: GuidedAlignment()(ALIGNMENTS, scores), [scores], []
    )
    expected = central_differences(lambda: loss_of(ALIGNMENTS, scores), scores)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


# Half of each of two steps: -(log .5 + (log .25 + log .5) / 2) / 2 = (1 + 1.5) / 2 log 2.
def test_example_worked_by_hand():
    scores = np.array([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [1, 0, 0]]], "float32")
    alignments = np.array([[[1, 0, 0], [1, 1, 0], [0, 0, 0]]])
    np.testing.assert_allclose(
        float(GuidedAlignment()(alignments, scores)), 1.25 * np.log(2), rtol=1e-6
    )


def test_nothing_aligned_and_scores_of_zero():
    zeros = np.zeros((BATCH, TARGET, SOURCE), "float32")
    assert float(GuidedAlignment()(zeros, random_scores())) == 0.0
    # 0 counts as the smallest normal number, whatever a row of alignments sums to.
    for dtype, exponent in (("float32", 126), ("float64", 1022)):
        found = float(GuidedAlignment()(ALIGNMENTS, zeros.astype(dtype)))
        np.testing.assert_allclose(found, exponent * np.log(2), rtol=1e-6)


def test_padding_changes_nothing():
    scores, wider = random_scores(), ((0, 0), (0, 2), (0, 1))
    np.testing.assert_allclose(
        float(GuidedAlignment()(np.pad(ALIGNMENTS, wider), np.pad(scores, wider))),
        loss_of(ALIGNMENTS, scores),
        rtol=1e-6,
    )


def test_subwords_share_the_links_of_their_words(tmp_path):
    (tmp_path / "links").write_text("0-0 1-1 2-1 1p2\n\n", encoding="utf-8")
    first, second = read_gold_alignments(tmp_path / "links")
    source = ["▁the", "▁do", "g", "▁runs", "</s>"]
    target = ["▁der", "▁läu", "ft", "▁weg", "</s>"]
    third = 1 / 3
    expected = [
        [1, 0, 0, 0, 0],
        [0, third, third, third, 0],
        [0, third, third, third, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(subword_alignments(first.sure, source, target), expected, rtol=1e-6)
    possible = subword_alignments(first.possible, source, target)
    np.testing.assert_allclose(possible[3], [0, 0.5, 0.5, 0, 0])
    assert not subword_alignments(second.sure, source, target).any()
    of_generators = subword_alignments(iter(first.sure), iter(source), Labelled(target))
    np.testing.assert_allclose(of_generators, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="3 source and 3 target words.*Received: 0-3"):
        subword_alignments({(0, 3)}, source, target)


# Labels that say nothing of the source: only the second loss can teach where to look.
def test_a_training_learns_where_to_look(tmp_path):
    model = luong_seq2seq(12, 12, units=8, cell="gru")
    guided = model.with_attention_scores()
    losses = [MaskedCrossentropy(), GuidedAlignment()]
    guided.compile(keras.optimizers.Adam(0.03), loss=losses, jit_compile=False)
    source = np.array([[4, 5, 6, 7, 3], [8, 9, 10, 3, 0]])
    target_in = np.array([[2, 5, 5, 5, 5], [2, 5, 5, 5, 0]])
    target_out = np.array([[5, 5, 5, 5, 3], [5, 5, 5, 3, 0]])
    backwards = np.zeros((2, 5, 5), "float32")
    for row, length in enumerate((5, 4)):
        for step in range(length):
            backwards[row, step, length - 1 - step] = 1
    guided.fit([source, target_in], [target_out, backwards], epochs=60, verbose=0)
    _, scores = guided.predict([source, target_in], verbose=0)
    assert (scores.argmax(axis=-1) == backwards.argmax(axis=-1))[backwards.any(axis=-1)].all()
    guided.save(tmp_path / "guided.keras")
    again = keras.saving.load_model(tmp_path / "guided.keras")
    np.testing.assert_allclose(again.predict([source, target_in], verbose=0)[1], scores, atol=1e-6)
    # The model itself has learnt it.
    own = model.score(*map(ops.convert_to_tensor, (source, target_in, target_out)))
    np.testing.assert_allclose(ops.convert_to_numpy(own.attention_scores), scores, atol=1e-5)


def test_config_and_what_is_refused():
    loss = keras.losses.deserialize(keras.losses.serialize(GuidedAlignment("name")))
    assert isinstance(loss, GuidedAlignment) and loss.name == "name"
    scores = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"\(batch, target length, source.*\(2, 3\) and \(2, 3\)"):
        loss(scores, scores)
    for other in (ALIGNMENTS[:, :, :1], ALIGNMENTS[:1]):  # which would be broadcast
        with pytest.raises(ValueError, match=r"one shape.*\(2, 4, 3\)"):
            loss(other, random_scores())
    for number in (-0.5, np.nan):
        with pytest.raises(ValueError, match=rf"at least 0\. .*: {number}"):
            loss(np.where(ALIGNMENTS == 0.2, number, ALIGNMENTS), random_scores())
    with pytest.raises(ValueError, match="no sample_weight"):
        loss(ALIGNMENTS, random_scores(), sample_weight=np.ones(2))
