import pytest

from keras_luong.text import PairFilter

PAIRS = [
    ("a dog runs", "ein Hund rennt"),
    ("", "nichts"),
    ("nothing", " \t"),
    ("a b c d e f", "a"),  # too long, and the ratio as well: the first reason counts
    ("a", "u v w x"),
    ("OK", " OK "),
    ("a dog runs ", "ein Hund rennt"),
    ("a dog runs", "der Hund rennt"),
    ("a b", "u v w x y"),
]


def test_every_reason_is_counted_and_order_stays():
    only = PairFilter(max_words=5, max_ratio=2.5)
    assert list(only(PAIRS)) == [PAIRS[0], PAIRS[7], PAIRS[8]]
    assert only.dropped == {"empty": 2, "too_long": 1, "ratio": 1, "copy": 1, "duplicate": 1}
    assert only.kept == 3


def test_what_is_allowed_stays():
    only = PairFilter(max_words=6, max_ratio=6, copies=True, duplicates=True)
    assert list(only(PAIRS)) == [PAIRS[0], *PAIRS[3:]]
    assert only.dropped["empty"] == 2
    assert sum(only.dropped.values()) + only.kept == len(PAIRS)


def test_it_goes_on_from_file_to_file_and_reads_no_further_than_asked():
    only = PairFilter()

    def endless():
        number = 0
        while True:
            yield f"a {number}", f"b {number}"
            number += 1

    stream = only(endless())
    first = next(stream)
    assert (first, only.kept) == (("a 0", "b 0"), 1)
    assert list(only([first, ("a 1", "b 1")])) == [("a 1", "b 1")]
    assert only.dropped["duplicate"] == 1


@pytest.mark.parametrize("arguments", [{"max_words": 0}, {"max_ratio": 0.5}])
def test_wrong_arguments(arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: .*{value}"):
        PairFilter(**arguments)
