"""What is written for unknown ids, by hand: source text, target tokens, where each looked."""

import numpy as np
import pytest

from keras_luong import SubwordTokenizer
from keras_luong.serving import Translation, UnknownWords

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
UNKNOWN = "<unk>"


@pytest.fixture(scope="module")
def letters():
    """One id a letter."""
    return SubwordTokenizer.train([ALPHABET, "a b , . ( )"], 35, model_type="char")


def translated(letters, source, target_tokens, looks):
    """A translation whose tokens looked at these places of the source, and at others less."""
    pieces = letters.pieces(letters.tokenize([source]).values).numpy()
    source_tokens = [piece.decode() for piece in pieces] + ["</s>"]
    scores = np.full((len(target_tokens), len(source_tokens)), 0.1 / len(source_tokens))
    for step, place in looks.items():
        scores[step, place] += 0.9
    return Translation("as it came", -1.0, source_tokens, list(target_tokens), scores, -2.0)


def tokens(text):
    """One token a letter, `?` unknown."""
    marked = "▁" + text.replace(" ", "▁")
    return [UNKNOWN if letter == "?" else letter for letter in marked] + ["</s>"]


def replaced(letters, source, target, place, dictionary=None):
    """The text where all unknown tokens of `target` looked at one place of `source`."""
    target_tokens = tokens(target)
    looks = {step: place for step, token in enumerate(target_tokens) if token == UNKNOWN}
    one = translated(letters, source, target_tokens, looks)
    return UnknownWords(letters, letters, dictionary)(source, one)


# ▁ a ▁ 犬 ▁ b: the places of the pieces
@pytest.mark.parametrize("source, target, place, expected", [
    ("a 犬 b", "x ? y", 3, "x 犬 y"),
    ("a 犬 b", "x ? y", 2, "x 犬 y"),  # the space before a word stands for it
    ("a 犬 b", "? y", 1, "a y"),
    ("a 犬 b", "x ?", 5, "x b"),
    ("a zoë b", "x ?", 5, "x zoë"),  # the whole word, whichever piece of it
    ("a zoë b", "x ?", 3, "x zoë"),
    ("a zoë b", "x zo? y", 5, "x zoë y"),  # for the whole word that it stands in
    ("a zoë b", "x ?o? y", 5, "x zoë y"),
    ("a zoë b", "x zo?s, y", 5, "x zoë, y"),  # but not for the punctuation around
    ("a (zoë), b", "x (?). y", 6, "x (zoë). y"),
    ("a (zoë), b", "x ? y", 3, "x zoë y"),
    ("rhein-ödland-see", "?", 7, "rhein-ödland-see"),
    ("a …", "x ?", 3, "x …"),  # nothing but punctuation is what it is
    ("a  \tzoë", "x ?", 5, "x zoë"),
    ("  zoë a", "? x", 2, "zoë x"),  # spaces that no piece has
    ("½ zoë", "?", 1, "½"),  # characters that are several after normalization
    ("½ zoë", "?", 3, "zoë"),
    ("ab犬猫cd", "x ?", 3, "x 犬猫"),  # in a script without spaces: the subword
    ("ab犬猫cd", "犬?猫", 3, "犬犬猫猫"),
    ("ab犬猫cd", "x ?", 1, "x ab"),
])  # fmt: skip
def test_the_source_word_takes_the_place(letters, source, target, place, expected):
    one = replaced(letters, source, target, place)
    assert one.text == expected
    assert one.target_tokens == tokens(target) and one.score == -1.0


def test_a_dictionary_has_the_last_word(letters):
    dictionary = {"zoë": "Zoe", "犬": "dog", "a": ""}
    assert replaced(letters, "a zoë b", "x zo? y", 5, dictionary).text == "x Zoe y"
    assert replaced(letters, "a 犬, b", "x (?) y", 3, dictionary).text == "x (dog) y"
    assert replaced(letters, "a 猫 b", "x ? y", 3, dictionary).text == "x 猫 y"
    assert replaced(letters, "a 猫 b", "x ? y", 1, dictionary).text == "x  y"


def test_each_unknown_word_gets_its_own(letters):
    source, target = "犬 a 猫", tokens("? x ?")
    one = translated(letters, source, target, {1: 5, 5: 1})
    assert UnknownWords(letters, letters)(source, one).text == "猫 x 犬"


def test_where_nothing_is_unknown_nothing_changes(letters):
    one = translated(letters, "犬", tokens("x y"), {})
    assert UnknownWords(letters, letters, {"x": "z"})("犬", one) is one


def test_the_end_is_no_word(letters):
    target = tokens("x ?")
    one = translated(letters, "a 犬", target, {})
    one.attention_scores[3] = [0.0, 0.0, 0.1, 0.3, 0.6]
    assert UnknownWords(letters, letters)("a 犬", one).text == "x 犬"
    one.attention_scores[3] = [0.0, 0.0, 0.0, 0.0, 1.0]
    assert UnknownWords(letters, letters)("a 犬", one).text == "x  ⁇ "
    one.attention_scores[3] = 0.0
    assert UnknownWords(letters, letters)("a 犬", one).text == "x  ⁇ "


def test_what_stays_unknown_reads_as_the_detokenizer_writes_it(letters):
    target = tokens("x y?z ?")
    one = translated(letters, "a", target, {})
    one.attention_scores[:] = 0.0
    names = [piece.decode() for piece in letters.pieces(list(range(35))).numpy()]
    ids = [names.index(token) for token in target]
    written = letters.detokenize([ids]).numpy()[0].decode()
    assert UnknownWords(letters, letters)("a", one).text == written


def test_a_source_that_was_cut(letters):
    """Only what was read has scores; the words are still those of the text."""
    source, target = "a zoë b", tokens("?")
    one = translated(letters, source, target, {1: 3})
    cut = one._replace(
        source_tokens=[*one.source_tokens[:4], "</s>"], attention_scores=one.attention_scores[:, :5]
    )
    assert UnknownWords(letters, letters)(source, cut).text == "zoë"
