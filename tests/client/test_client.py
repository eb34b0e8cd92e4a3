"""Both clients against a server: the stand-in, or TF Serving, if the environment names one."""

import threading

import numpy as np
import pytest

from keras_luong_client import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
    ServingError,
    UnavailableError,
)
from tests.client.model_server import Refusal

AT_ONCE = RetryPolicy(initial_backoff=0.0)
DATES = {
    "the third of May 2021": "2021-05-03",
    "Mon 3/5/21": "2021-05-03",
    "le 14 juillet 1989": "1989-07-14",
    "": "",
}


def test_translations_come_in_the_order_of_the_texts(connect):
    assert connect().translate(list(DATES)) == list(DATES.values())


class Column:
    """As a column of a table is: a number in brackets is a label there, and not a place."""

    def __init__(self, values):
        self._values = dict(zip("xyz", values, strict=False))

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values.values())

    def __getitem__(self, label):
        return self._values[label]


@pytest.mark.parametrize("of", [iter, tuple, np.array, Column])
def test_any_iterable_is_read_once_in_its_order(connect, of):
    client, dates = connect(max_batch_size=2), list(DATES)[:3]
    found = client.explain(dates)
    assert client.translate(of(dates)) == [DATES[date] for date in dates]
    assert client.explain(of(dates)) == found
    ids = [[8, 9, 3], [7, 3], [8, 7, 3]]
    asked = []

    def predict(signature, columns):
        asked.append(columns)
        raise ServingError("INTERNAL", "enough is known")

    client._predict = predict
    for ask in (
        lambda: client.n_best(of(dates), of([0.5, 1.0, 1.5])),
        lambda: client.score(of(dates), of(list(DATES.values())[:3])),
        lambda: client.sample(of(dates), of([3, 4, 5])),
        lambda: client.translate_ids(map(of, ids)),
    ):
        with pytest.raises(ServingError, match="enough"):
            ask()
    # The two longest texts, and the two longest rows.
    assert asked == [
        {"text": [dates[0], dates[2]], "alpha": [0.5, 1.5]},
        {"text": [dates[0], dates[2]], "target_text": ["2021-05-03", "1989-07-14"]},
        {"text": [dates[0], dates[2]], "seed": [3, 5]},
        {"source_ids": [[8, 9, 3], [8, 7, 3]]},
    ]


def test_no_texts_are_not_sent(connect):
    client = connect("no_such_model")  # which the server would refuse
    assert client.translate([]) == []
    assert client.explain([]) == []
    assert client.n_best([]) == []
    assert client.score([], []) == []
    assert client.sample([], 1) == []
    assert client.translate_ids([]) == []


def test_what_a_translation_was_made_of(connect):
    (date, nothing) = connect().explain(["Mon 3/5/21", ""])
    assert date.text == "2021-05-03"
    assert "".join(date.target_tokens) == "▁2021-05-03</s>"
    assert "".join(date.source_tokens) == "▁Mon▁3/5/21</s>"
    assert date.score < 0 and date.log_prob in (None, date.score)  # the committed model is greedy
    assert [len(row) for row in date.attention_scores] == [len(date.source_tokens)] * 12
    np.testing.assert_allclose(np.sum(date.attention_scores, axis=1), 1.0, atol=1e-5)
    assert nothing == ("", 0.0, ["</s>"], [], [], nothing.log_prob, nothing.truncated)


def test_a_text_alone_is_what_it_is_among_longer_ones(connect):
    texts = ["Mon 3/5/21", "the twenty-first of September nineteen hundred and eighty-four"]
    (alone,), (among, _) = connect().explain(texts[:1]), connect().explain(texts)
    assert among[0] == alone[0] and among[2:4] == alone[2:4]
    np.testing.assert_allclose(among[1], alone[1], atol=1e-5)
    np.testing.assert_allclose(among[4], alone[4], atol=1e-5)


def test_rows_padded_to_the_longest_of_a_merged_batch_are_trimmed(connect, server):
    (alone,) = connect().explain(["3/5/21"])
    server.batch_mates = {"text": [b"the twenty-first of September 1984 or a little later"]}
    (merged,) = connect().explain(["3/5/21"])
    assert merged[:1] + merged[2:4] == alone[:1] + alone[2:4]
    assert np.shape(merged.attention_scores) == np.shape(alone.attention_scores)


def test_long_lists_are_split(connect, server):
    texts = [f"{day}/5/21" for day in range(1, 11)] * 2
    dates = [f"2021-05-{day:02}" for day in range(1, 11)] * 2
    server.max_batch_size = 8
    assert connect(max_batch_size=8).translate(texts) == dates
    assert [rows for _, rows in server.requests] == [8, 8, 4]
    with pytest.raises(InvalidRequestError, match="more than a batch of 8"):
        connect(max_batch_size=9).translate(texts)


def test_signatures_versions_and_readiness(connect):
    client = connect(label="stable")
    assert "serving_default" in client.signatures()
    assert client.versions()[1] == "AVAILABLE"
    assert client.is_ready()
    client.wait_until_ready(timeout=5)


def test_a_version_is_asked_by_number_or_label(connect, server):
    server.states[3] = "END"
    assert connect(version=1).translate(["3/5/21"]) == ["2021-05-03"]
    with pytest.raises(NotFoundError, match="3"):
        connect(version=3).translate(["3/5/21"])
    server.labels = {"canary": 3}
    assert not connect(label="canary").is_ready()
    server.states[3] = "AVAILABLE"
    assert connect(label="canary").translate(["3/5/21"]) == ["2021-05-03"]


def test_no_such_model(connect):
    client = connect("no such/model")
    assert not client.is_ready()
    with pytest.raises(NotFoundError) as caught:
        client.explain(["3/5/21"])
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(NotFoundError):
        client.versions()


def test_no_such_version(connect):
    with pytest.raises(NotFoundError):
        connect(version=77).explain(["3/5/21"])


def test_no_such_signature(connect):
    with pytest.raises(InvalidRequestError, match="(?i)signature.*sample"):
        connect().sample(["3/5/21"], seed=1)


def test_no_such_label(connect):
    client = connect(label="no_such_label")
    assert not client.is_ready()
    with pytest.raises(InvalidRequestError, match="no_such_label"):
        client.explain(["3/5/21"])


def test_a_server_that_is_loading_is_waited_for(connect, server):
    server.states = dict.fromkeys(server.states, "LOADING")
    client = connect()
    assert not client.is_ready()
    assert client.versions() == {1: "LOADING", 3: "LOADING"}
    with pytest.raises(DeadlineError, match="not ready"):
        client.wait_until_ready(timeout=0.2, interval=0.05)
    timer = threading.Timer(0.2, lambda: server.states.update({1: "AVAILABLE"}))
    timer.start()
    client.wait_until_ready(timeout=20, interval=0.05)
    timer.join()
    assert client.translate(["3/5/21"]) == ["2021-05-03"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"timeout": float("nan")}, "`timeout`"), ({"interval": float("nan")}, "`interval`")],
)
def test_no_endless_wait_for_a_server(connect, options, message):
    with pytest.raises(ValueError, match=message):
        connect().wait_until_ready(**options)


def test_labels_that_are_not_read_yet_are_waited_for(connect, server):
    server.labels = None
    client = connect(label="stable", retry=RetryPolicy(initial_backoff=0.2, max_attempts=50))
    timer = threading.Timer(0.1, lambda: setattr(server, "labels", {"stable": 1}))
    timer.start()
    assert client.translate(["3/5/21"]) == ["2021-05-03"]
    timer.join()


def test_what_is_unavailable_is_sent_again(connect, server):
    server.refusals = [Refusal("UNAVAILABLE", "the queue is full")] * 2
    assert connect(retry=AT_ONCE).translate(["3/5/21"]) == ["2021-05-03"]
    assert server.attempts == 3


def test_attempts_end(connect, server):
    server.refusals = [Refusal("UNAVAILABLE", "the queue is full")] * 9
    with pytest.raises(UnavailableError, match=r"the queue is full \(5 attempts\)"):
        connect(retry=AT_ONCE).explain(["3/5/21"])
    assert server.attempts == 5


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INVALID_ARGUMENT", InvalidRequestError),
        ("NOT_FOUND", NotFoundError),
        ("DEADLINE_EXCEEDED", DeadlineError),
        ("RESOURCE_EXHAUSTED", ServingError),
        ("UNIMPLEMENTED", ServingError),
        ("PERMISSION_DENIED", ServingError),
        ("INTERNAL", ServingError),
    ],
)
def test_what_is_refused_is_sent_once(connect, server, code, error):
    server.refusals = [Refusal(code, "for a reason")] * 2
    with pytest.raises(error, match=f"{code}: .*for a reason") as caught:
        connect(retry=AT_ONCE).explain(["3/5/21"])
    assert caught.value.code == code
    assert server.attempts == 1


def test_a_slow_answer_is_not_waited_for_and_not_asked_for_again(connect, server):
    client = connect(retry=AT_ONCE)
    client.translate(["3/5/21"])  # the connection stands, and the model is warm
    client.timeout, server.delay, before = 1.0, 2.0, server.attempts
    with pytest.raises(TimeoutError) as caught:
        client.translate(["3/5/21"])
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert server.attempts == before + 1


def test_several_threads_share_a_client(connect):
    client, results = connect(), {}
    texts = [f"{day}/5/21" for day in range(1, 13)]

    def ask(text):
        results[text] = client.translate([text])

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {f"{day}/5/21": [f"2021-05-{day:02}"] for day in range(1, 13)}


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("translate", ("one text",), TypeError, "a list of strings"),
        ("translate", ({"one", "two"},), TypeError, "a list of strings"),
        ("explain", (3,), TypeError, "a list of strings. Received: 3"),
        ("explain", (["a", 3],), TypeError, "Received at 1: 3"),
        ("translate", (["\ud800"],), ValueError, "UTF-8"),
        ("score", (["a"], []), ValueError, "1 texts and 0 translations"),
        ("n_best", (["a"], [0.1, 0.2]), ValueError, "2 for 1 texts"),
        ("n_best", (["a", "b"], "12"), TypeError, "numbers, or one number"),
        ("sample", (["a"], 0.5), TypeError, "integer"),
        ("sample", (["a"], 1 << 31), ValueError, "`seed` must be integers of 32 bits"),
        ("sample", (["a", "b"], (1 << 31) - 1), ValueError, "`seed` .* Received: 2147483648"),
        ("translate_ids", ([[1.0]],), TypeError, "lists of integers"),
        ("translate_ids", ([[-(1 << 31) - 1]],), ValueError, "`source_ids` must be .* 32 bits"),
        ("translate_ids", ([[7], b"78"],), TypeError, "lists of integers. Received at 1"),
        ("translate_ids", ("",), TypeError, "rows of integers"),
    ],
)
def test_bad_input_is_refused_before_it_is_sent(connect, method, arguments, error, message):
    client = connect("no_such_model")
    with pytest.raises(error, match=message):
        getattr(client, method)(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 1, "label": "stable"}, "not both"),
        ({"version": "1/../2"}, "`version` must be an integer from 0"),
        *(
            ({"version": version}, "`version` must be an integer from 0 to")
            for version in (-1, True, 1.0, 1 << 63)
        ),
        *(({"label": name}, "`label` must be a name") for name in ("", ".", "..", "\ud800", 5)),
        *(({"model": name}, "`model` must be a name") for name in ("", ".", "..", "\ud800", None)),
        *(({"timeout": timeout}, "timeout") for timeout in (0, float("nan"), float("inf"))),
        *(({"max_batch_size": size}, "`max_batch_size` must") for size in (0, 2.5, True)),
        *(({"max_answer_bytes": size}, "`max_answer_bytes` must") for size in (0, 2.5, -1)),
    ],
)
def test_bad_options(connect, options, message):
    with pytest.raises(ValueError, match=message):
        connect(**options)
