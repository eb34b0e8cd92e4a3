"""Random bytes to every signature of an export, in TF Serving's loader: rows, threads and memory.

The long runs, `make test-all`, send ten thousand rows and five thousand requests.
"""

import functools

import numpy as np
import pytest

from keras_luong.serving import cpp_loader
from tests.serving import every_signature, hostile
from tests.serving.numbers import VOCABULARY

BATCH = 50
WARM_UP = 1000
THREADS = 4
SHORT = 300


def short_and_long(short, long):
    return [short, pytest.param(long, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return every_signature.export(tmp_path_factory)


@pytest.fixture(scope="module")
def columns(exported):
    """By signature: rows of random bytes, as many as are asked for."""
    signatures = hostile.signature_defs(exported)

    def of(name, count):
        texts = hostile.random_bytes(count, seed=6)
        return hostile.columns_of(signatures[name], texts, VOCABULARY)

    return {name: lambda count, name=name: of(name, count) for name in signatures}


@pytest.fixture(scope="module")
def answers(exported, columns, cpp_runner):
    """The requests of a signature, each row alone and then in batches, and the replies to them."""

    @functools.cache
    def of(name, count):
        rows = columns[name](count)
        requests = [*hostile.rows_of(rows, 1), *hostile.rows_of(rows, BATCH)]
        replies = cpp_loader.run(cpp_runner, exported, requests, signature=name, timeout=3000)
        return requests, replies

    return of


@pytest.mark.parametrize("count", short_and_long(SHORT, 10_000))
def test_every_row_is_answered_as_if_it_were_alone(columns, answers, count):
    for name in columns:
        _, replies = answers(name, count)
        alone, batches = replies[:count], replies[count:]
        for reply in alone:
            hostile.assert_sound(reply, 1)
        for index, reply in enumerate(batches):
            hostile.assert_sound(reply, BATCH)
            for row in range(BATCH):
                hostile.assert_same_row(
                    hostile.row_of(reply, row),
                    hostile.row_of(alone[index * BATCH + row], 0),
                    tolerance=1e-4,
                )


def test_the_bytes_are_of_every_kind():
    texts = hostile.random_bytes(1_000, seed=6)
    assert len(set(texts)) > 900 and b"" in texts
    broken = 0
    for text in texts:
        try:
            text.decode()
        except UnicodeDecodeError:
            broken += 1
    assert 300 < broken < 700


def test_threads_on_one_session_say_what_one_thread_says(exported, columns, answers, cpp_runner):
    for name in columns:
        # Single rows, then batches: different shapes are at work at the same time.
        requests, expected = (both[-220:] for both in answers(name, SHORT))
        replies = cpp_loader.run(
            cpp_runner, exported, requests, signature=name, threads=THREADS, timeout=3000
        )
        for reply, one in zip(replies, expected, strict=True):
            assert set(reply) == set(one)
            for key, array in one.items():
                np.testing.assert_array_equal(reply[key], array, err_msg=f"{name}: {key}")


@pytest.mark.parametrize("requests", short_and_long(WARM_UP + 400, 5_000))
def test_memory_stays_where_it_is(exported, columns, cpp_runner, requests):
    """Less than 1 KB a request is held in the end, as the system counts the process's memory."""
    names = columns if requests == 5_000 else ["serving_default"]
    for name in names:
        rows = hostile.rows_of(columns[name](requests), 1)
        measured = cpp_loader.measure(cpp_runner, exported, rows, signature=name, timeout=3000)
        resident = [one["resident"] for one in measured]
        growth = (resident[-1] - resident[WARM_UP]) / (requests - WARM_UP)
        assert growth < 1024, f"{name}: {growth:.0f} bytes a request"
