"""Answers whose values are not as an export of keras_luong has them, whatever the protocol."""

import math

import pytest

from keras_luong_client import ServingClient, ServingError

ONE = {
    "translation": "eins",
    "score": -0.5,
    "log_prob": -0.75,
    "source_tokens": ["one", "</s>"],
    "source_length": 2,
    "target_tokens": ["eins", "</s>"],
    "target_length": 2,
    "attention_scores": [[1.0, 0.0], [0.25, 0.75]],
    "truncated": False,
}
OF_TEXT = ("source_tokens", "source_length", "truncated")
TWO = {name: value if name in OF_TEXT else [value] * 2 for name, value in ONE.items()}
LIGHT = {name: ONE[name] for name in ("translation", "score", "log_prob", "truncated")}
SCORED = {
    **{name: value for name, value in ONE.items() if name not in ("translation", "score")},
    "token_log_probs": [-0.5, -0.25],
    "target_truncated": False,
}
OF_IDS = {
    **{name: ONE[name] for name in ("score", "log_prob", "target_length", "attention_scores")},
    "target_ids": [7, 3],
    "truncated": False,
}
# A method, its arguments, the row that answers them and the names of it that are read.
QUESTIONS = [
    ("translate", (["one"],), LIGHT, {"translation"}),
    ("explain", (["one"],), ONE, set(ONE)),
    ("n_best", (["one"],), TWO, set(TWO)),
    ("sample", (["one"], 1), TWO, set(TWO)),
    ("score", (["one"], ["eins"]), SCORED, set(SCORED)),
    ("translate_ids", ([[5, 3]],), OF_IDS, set(OF_IDS)),
]
CASES = [
    pytest.param(method, arguments, row, name, id=f"{method}-{name}")
    for method, arguments, row, names in QUESTIONS
    for name in sorted(names)
]
OF_NO_KIND = [None, {}, {"b64": "eA=="}, [], [[[[[[]]]]]]]
OF_ANOTHER_KIND = {
    str: [3, 0.5, True, "\ud800"],
    float: ["0.5", True, 10**400],
    int: ["2", 2.0, True, math.nan],
    bool: [0, 1.0, "true"],
}


class Told(ServingClient):
    """A client of a server that answers with one row."""

    def __init__(self, row):
        super().__init__("m")
        self._known_signatures = frozenset({"light"})
        self.row = row

    def _ask(self, signature, columns, seconds):
        return {name: [value] for name, value in self.row.items()}

    def _ask_signatures(self, seconds): ...

    def _ask_versions(self, seconds): ...

    def close(self): ...


def with_leaf(value, leaf):
    """Nested lists with another first value."""
    return [with_leaf(value[0], leaf), *value[1:]] if isinstance(value, list) else leaf


def leaf_of(value):
    return leaf_of(value[0]) if isinstance(value, list) else value


def wrong_values(value):
    leaf = leaf_of(value)
    yield from (with_leaf(value, wrong) for wrong in OF_NO_KIND + OF_ANOTHER_KIND[type(leaf)])
    while isinstance(value, list):
        yield from (None, leaf, {"0": leaf}, value[:-1])
        if isinstance(value[0], list):
            yield [value[0][:-1], *value[1:]]
        value = value[0]


@pytest.mark.parametrize(("method", "arguments", "row", "name"), CASES)
def test_a_value_of_the_wrong_kind_is_named(method, arguments, row, name):
    for wrong in wrong_values(row[name]):
        with pytest.raises(ServingError, match=f"text at 0 with a value .*`{name}`") as caught:
            getattr(Told(row | {name: wrong}), method)(*arguments)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("method", "arguments", "row", "names"), QUESTIONS[1:])
@pytest.mark.parametrize("length", [-1, 3, 10**30])
def test_a_length_that_nothing_has_is_noticed(method, arguments, row, names, length):
    for name in names & {"source_length", "target_length"}:
        with pytest.raises(ServingError, match="`\\w+` must (be|have) at least"):
            getattr(Told(row | {name: with_leaf(row[name], length)}), method)(*arguments)


@pytest.mark.parametrize(("method", "arguments", "row", "names"), QUESTIONS)
def test_a_missing_output_is_named_and_further_ones_are_ignored(method, arguments, row, names):
    # Older exports do not say these.
    optional = {"truncated", "target_truncated"} | ({"log_prob"} if "translation" in row else set())
    for name in names - optional:
        less = {key: value for key, value in row.items() if key != name}
        with pytest.raises(ServingError, match=f"has no output '{name}'"):
            getattr(Told(less), method)(*arguments)
    told, more = (getattr(Told(one), method)(*arguments) for one in (row, row | {"model": None}))
    assert told == more


def test_numbers_that_are_none_and_whole_ones_are_read():
    row = ONE | {"score": -math.inf, "log_prob": 0, "attention_scores": [[1, 0], [math.nan, 0.5]]}
    (found,) = Told(row).explain(["one"])
    assert found.score == -math.inf
    assert type(found.log_prob) is float and found.attention_scores[0] == [1.0, 0.0]
    assert math.isnan(found.attention_scores[1][0])


def test_of_a_source_that_was_cut_there_are_fewer_columns():
    row = OF_IDS | {"truncated": True}
    (found,) = Told(row).translate_ids([[5, 6, 7, 3]])
    assert found.attention_scores == [[1.0, 0.0], [0.25, 0.75]]
