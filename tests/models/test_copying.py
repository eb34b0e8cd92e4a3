"""`Seq2Seq` with a `CopyMechanism`: its numbers, what only it can learn, and what it goes with."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_luong import (
    AttentionDecoder,
    AttentionDecoderCell,
    CopyMechanism,
    Ensemble,
    LuongAttention,
    MaskedCrossentropy,
    Seq2Seq,
    Shortlist,
    luong_seq2seq,
    rnn_encoder,
)
from tests.models.test_quantize import weights_alone
from tests.models.test_seq2seq import (
    JAX,
    SOURCE,
    TARGET_IDS,
    TARGETS,
    TARGETS_IN,
    forward,
    fresh,
    generate,
    looped,
    made,
)
from tests.models.test_shortlist import PART, WHOLE, assert_same


def probabilities(model):
    """Equations 8 and 9, from what the parts of the model say, and how much is generated."""
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    memory, *states = model.encoder(source)
    vectors, scores = model.decoder(
        model.target_embedding(target),
        memory,
        initial_state=states,
        sequences_mask=ops.not_equal(target, 0),
        memory_mask=ops.not_equal(source, 0),
        return_attention_scores=True,
    )
    parts = keras.Model([source, target], [memory, vectors, scores])
    memory, vectors, scores = parts.predict_on_batch([SOURCE, TARGETS_IN])
    words = ops.convert_to_numpy(model.target_embedding.embeddings).astype("float64")
    of_context, of_vector, bias = (
        one.ravel().astype("float64") for one in model.copy_mechanism.get_weights()
    )
    expected, generated = np.zeros((*TARGETS.shape, TARGET_IDS)), np.zeros(TARGETS.shape)
    for row, step in np.ndindex(TARGETS.shape):
        context, vector = scores[row, step] @ memory[row], vectors[row, step]
        generate = 1 / (1 + np.exp(-(context @ of_context + vector @ of_vector + bias[0])))
        exps = np.exp(words @ vector)
        expected[row, step] = generate * exps / exps.sum()
        for place, word in enumerate(SOURCE[row]):
            expected[row, step, word] += (1 - generate) * scores[row, step, place]
        generated[row, step] = generate
    return expected, generated


def test_probabilities_and_their_loss_equal_a_loop():
    model = made("copying")
    log_probs, (expected, generated) = forward(model, [SOURCE, TARGETS_IN]), probabilities(model)
    kept = TARGETS_IN != 0
    np.testing.assert_allclose(np.exp(log_probs)[kept], expected[kept], atol=1e-5)
    assert generated[kept].min() < 0.3 and generated[kept].max() > 0.7
    # Log-probabilities are logits: their softmax is what they are the logarithms of.
    of_labels = np.take_along_axis(expected, TARGETS[..., None], axis=-1)[..., 0]
    loss = MaskedCrossentropy()(TARGETS, ops.convert_to_tensor(log_probs))
    np.testing.assert_allclose(float(loss), -np.log(of_labels[TARGETS != 0]).mean(), atol=1e-5)


WORDS, END = 30, 3
SEEN, UNSEEN, UNKNOWN = range(6, 20), range(20, WORDS), range(WORDS, WORDS + 2)


def swaps(words, count):
    """Two words between two marks, to be written the other way round."""
    rng = np.random.default_rng([count, *words])
    first, second = rng.choice(list(words), (2, count))
    if words is UNKNOWN:  # the first unknown word of a sentence has the first id
        first, second = np.full(count, WORDS), WORDS + rng.integers(0, 2, count)
    source = np.stack([0 * first + 4, first, 0 * first + 5, second, 0 * first + END], axis=1)
    target = np.stack([0 * first + 2, second, first, 0 * first + END], axis=1)
    return source.astype("int32"), target.astype("int32")


def trained(copy_mechanism, words):
    cell = AttentionDecoderCell(keras.layers.GRUCell(16), LuongAttention(), 16)
    model = Seq2Seq(
        rnn_encoder(WORDS, 16, 8, state_sizes=[16], cell="gru"),
        keras.layers.ReversibleEmbedding(WORDS, 16),
        AttentionDecoder(cell),
        copy_mechanism=copy_mechanism,
    )
    source, target = (
        np.concatenate(both) for both in zip(*(swaps(one, 384) for one in words), strict=True)
    )
    model.compile(keras.optimizers.Adam(0.02), MaskedCrossentropy(), jit_compile=JAX)
    model.fit([source, target[:, :-1]], target[:, 1:], batch_size=32, epochs=4, verbose=0)
    return model


def matches(model, words, **options):
    source, target = swaps(words, 50)
    ids = generate(model, source, max_length=3, **options).ids[:, 0]
    return (ids == target[:, 1:]).all(axis=1).mean()


@pytest.mark.traced
def test_words_that_training_has_never_seen():
    model = trained(CopyMechanism(WORDS, max_unknown_words=2), [SEEN, UNKNOWN])
    assert matches(model, SEEN) == matches(model, UNKNOWN) == 1.0
    assert matches(model, UNSEEN) > 0.9
    # Without copies there is nothing that such a word could come from.
    assert matches(trained(None, [SEEN]), UNSEEN) == 0.0


# ---------------------------------------------------------------------------------------------
# What a copy mechanism goes with
# ---------------------------------------------------------------------------------------------


def test_a_model_with_itself_is_the_model():
    model = made("unknown_words")
    assert_same(generate(Ensemble([model, model])), generate(model))


def test_a_shortlist_of_the_whole_vocabulary_changes_nothing():
    model = made("copying")
    assert_same(generate(model, shortlist=WHOLE), generate(model))


def test_a_shortlist_rules_out_copies_too():
    model = made("copying")
    together = generate(model, shortlist=PART)
    for row, ids in enumerate(SOURCE):
        own = {2, END, *PART.aligned[ids].ravel().tolist()}
        assert set(together.ids[row].ravel().tolist()) <= own
    # It is no matter what other sentences may hold.
    alone = generate(model, SOURCE[:1], shortlist=PART)
    np.testing.assert_array_equal(alone.ids[0], together.ids[0])
    np.testing.assert_allclose(alone.log_probs[0], together.log_probs[0], atol=1e-4)


def test_a_shortlist_knows_no_unknown_words():
    shortlist = Shortlist(np.full((9, 1), -1), np.arange(TARGET_IDS))
    with pytest.raises(ValueError, match=r"max_unknown_words=0\. Received: 3"):
        made("unknown_words").generate(SOURCE, shortlist=shortlist)


def test_quantized():
    model, inputs = fresh("copying"), [SOURCE, TARGETS_IN]
    before = forward(model, inputs)
    model.quantize(config=weights_alone())
    after = forward(model, inputs)
    assert model.is_quantized and 0 < np.abs(np.exp(after) - np.exp(before)).max() < 0.1
    result, (ids, _, log_probs) = generate(model), looped(model, SOURCE)
    np.testing.assert_array_equal(result.ids[:, 0], ids)
    np.testing.assert_allclose(result.log_probs[:, 0], log_probs, atol=1e-4)


def test_smoothed_labels_have_a_loss_and_gradients():
    model = fresh("unknown_words")
    model.compile(keras.optimizers.SGD(1.0), MaskedCrossentropy(0.1), jit_compile=JAX)
    before = [ops.convert_to_numpy(one) for one in model.trainable_variables]
    loss = model.train_on_batch([SOURCE, TARGETS_IN], TARGETS)
    after = [ops.convert_to_numpy(one) for one in model.trainable_variables]
    assert np.isfinite(loss)
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all() and (new != old).any()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="shapes are known elsewhere")
def test_sizes_that_are_not_known_beforehand():
    import tensorflow as tf

    model, unknown = made("copying"), tf.TensorSpec((None, None), "int32")

    @tf.function(input_signature=[unknown, unknown])
    def in_training(source, target):
        return model([source, target], training=True)

    expected = forward(model, [SOURCE, TARGETS_IN])
    np.testing.assert_allclose(in_training(SOURCE, TARGETS_IN), expected, atol=1e-5)


def test_logits_of_another_size_are_refused():
    parts = luong_seq2seq(9, 11, units=4)
    with pytest.raises(ValueError, match=r"logits of 9 ids.*\(None, None, 11\)"):
        Seq2Seq(
            parts.encoder,
            parts.target_embedding,
            parts.decoder,
            copy_mechanism=CopyMechanism(9),
        )
