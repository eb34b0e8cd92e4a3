import gzip

import numpy as np
import pytest

from keras_luong.training import (
    Alignment,
    GoldAlignment,
    alignment_error_rate,
    read_gold_alignments,
    word_links,
)


def links(text):
    return frozenset(tuple(map(int, link.split("-"))) for link in text.split())


def gold(sure, possible=""):
    return GoldAlignment(links(sure), links(f"{sure} {possible}"))


def test_an_error_rate_by_hand():
    # Sentence 1: 3 links, 1 of them sure and 2 possible. Sentence 2: 1 link, neither.
    predicted = [links("0-0 1-1 2-5"), links("3-3")]
    references = [gold("0-0", "1-1"), gold("0-0 1-1")]
    assert alignment_error_rate(predicted, references) == pytest.approx(1 - (1 + 2) / (4 + 3))


def test_best_and_worst():
    assert alignment_error_rate([links("0-1")], [gold("0-1", "4-4")]) == 0.0
    assert alignment_error_rate([links("0-1")], [gold("1-0")]) == 1.0
    # What is possible may be predicted for nothing, or left out.
    assert alignment_error_rate([links("0-1 4-4")], [gold("0-1", "4-4")]) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([], [gold("0-0")]), "0 of predicted and 1 of gold"), (([links("")], [gold("")]), "empty")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        alignment_error_rate(*arguments)


def test_a_file_in_the_pharaoh_format(tmp_path):
    path = tmp_path / "gold"
    path.write_text("0-0 1p2 12?3\n\n3-4\n")
    assert read_gold_alignments(path) == [
        gold("0-0", "1-2 12-3"),
        gold(""),
        gold("3-4"),
    ]
    packed = tmp_path / "gold.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")))
    assert read_gold_alignments(packed) == read_gold_alignments(path)


@pytest.mark.parametrize(
    "link", ["1:1", "-1-1", "1.5-2", "nan-1", "1-", "٣-٤", "9" * 5000 + "-1", "1-1000000000"]
)
def test_a_link_that_is_none_names_its_line(tmp_path, link):
    path = tmp_path / "gold"
    path.write_text(f"0-0\n{link}\n")
    with pytest.raises(ValueError, match="Line 2 of .*gold' must hold links") as error:
        read_gold_alignments(path)
    assert len(str(error.value)) < 300


def test_subwords_and_the_end_token():
    source = ["▁der", "▁Hu", "nd", "▁läuft", "</s>"]
    target = ["▁the", "▁do", "g", "▁runs", "</s>"]
    scores = np.full((5, 5), 0.05)
    scores[0, 0] = 0.8
    # Of "dog" the two halves look at three places; "Hund" has most of both together.
    scores[1] = [0.4, 0.3, 0.2, 0.1, 0.0]
    scores[2] = [0.0, 0.2, 0.3, 0.5, 0.0]
    # The end token is no word, however much it is looked at.
    scores[3] = [0.0, 0.0, 0.0, 0.2, 0.8]
    assert word_links(Alignment(source, target, scores)) == links("0-0 1-1 2-2")


def test_a_first_word_without_its_mark_and_no_words_at_all():
    assert word_links(Alignment(["a", "b"], ["▁x"], [[0.2, 0.8]])) == links("0-0")
    assert word_links(Alignment(["</s>"], ["</s>"], [[1.0]])) == frozenset()
