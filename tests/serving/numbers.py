"""A small language of numbers, and what an export must say of it."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from keras_luong import MaskedCrossentropy, SubwordTokenizer, Translator, luong_seq2seq

NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier"}
PAIRS = [
    (" ".join(words), " ".join(NUMBERS[word] for word in words))
    for length in (1, 2)
    for words in itertools.product(NUMBERS, repeat=length)
] + [
    ("one two three four", "eins zwei drei vier"),
    ("four three two one", "vier drei zwei eins"),
    ("two two two", "zwei zwei zwei"),
    ("one one four", "eins eins vier"),
]
VOCABULARY = 27
MAX_LENGTH = 7
TOO_LONG = " ".join(["four three two one"] * 3)
TEXTS = [
    "one two three four",
    "",
    "three",
    "犬 two",  # no subword of this vocabulary
    "one 🙂🙂",
    "   ",
    TOO_LONG,
    "two  \tone\n",
    "<s> one </s>",
    "ｔｗｏ",  # a full-width "two"
    "one three",
]
DTYPES = {
    "translation": tf.string,
    "score": tf.float32,
    "log_prob": tf.float32,
    "attention_scores": tf.float32,
    "source_tokens": tf.string,
    "target_tokens": tf.string,
    "source_length": tf.int32,
    "target_length": tf.int32,
    "truncated": tf.bool,
}
RANKS = {"attention_scores": 3, "source_tokens": 2, "target_tokens": 2}


def tokenizer_of_numbers():
    return SubwordTokenizer.train([text for pair in PAIRS for text in pair], VOCABULARY)


def trained_translator():
    """A translator that has learnt its pairs, in 240 small batches."""
    keras.utils.set_random_seed(2)
    model = luong_seq2seq(VOCABULARY, VOCABULARY, units=32)
    optimizer = keras.optimizers.Adam(0.02, global_clipnorm=1.0)
    model.compile(optimizer, loss=MaskedCrossentropy(), jit_compile=False)
    tokenizer = tokenizer_of_numbers()
    translator = Translator(model, tokenizer, tokenizer, max_length=MAX_LENGTH)
    translator.fit(PAIRS, epochs=240, batch_size=len(PAIRS), buckets=1, verbose=0)
    return translator


def untrained(tokenizer, **arguments):
    """A translator with weights so large that its translations differ."""
    keras.utils.set_random_seed(7)
    model = luong_seq2seq(VOCABULARY, VOCABULARY, **{"units": 16, **arguments})
    for variable in model.trainable_variables:
        variable.assign(variable * 3)
    return Translator(model, tokenizer, tokenizer, max_length=MAX_LENGTH)


def assert_says(reply, expected, tolerance=1e-4):
    """The reply to a batch is, row for row, what `explain` says; beyond a length is nothing."""
    assert {name: array.shape[0] for name, array in reply.items()} == dict.fromkeys(
        DTYPES, len(expected)
    )
    for row, one in enumerate(expected):
        assert_row_says({name: array[row] for name, array in reply.items()}, one, tolerance)


def assert_row_says(row, one, tolerance=1e-4):
    """One translation of a reply is what a `Translation` says."""
    source, target = len(one.source_tokens), len(one.target_tokens)
    assert (row["source_length"], row["target_length"]) == (source, target)
    assert row["translation"].decode() == one.text
    for name in ("score", "log_prob"):
        np.testing.assert_allclose(row[name], getattr(one, name), rtol=0, atol=tolerance)
    assert_tokens_and_attention(row, one, tolerance)


def assert_tokens_and_attention(row, one, tolerance=1e-4):
    """The subwords of a row and what each looked at; beyond the lengths is nothing."""
    source, target = len(one.source_tokens), len(one.target_tokens)
    for name in ("source_tokens", "target_tokens"):
        tokens, got = getattr(one, name), [token.decode() for token in row[name]]
        assert got == [*tokens, *[""] * (len(got) - len(tokens))]
    got = row["attention_scores"]
    scores = np.zeros(got.shape, "float32")
    scores[:target, :source] = one.attention_scores
    np.testing.assert_allclose(got, scores, rtol=0, atol=tolerance)
    assert not got[target:].any() and not got[:, source:].any()
