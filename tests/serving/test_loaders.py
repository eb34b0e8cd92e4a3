"""Every signature of one export, for texts that nobody expects, in each loader that there is.

The loaders are the one of TF Serving in C++, of the TensorFlow installed here and of 2.20, which
the newest release of the server is built from, and Python's two in fresh processes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_luong.serving import cpp_loader
from tests.serving import every_signature, hostile
from tests.serving.conftest import OTHER_PACKAGES
from tests.serving.numbers import VOCABULARY, assert_says

LOADERS = ("C++", "C++ 2.20", "Python v1", "Python v2")
TEXTS = list(hostile.TEXTS.values())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return every_signature.export(tmp_path_factory)


@pytest.fixture(scope="module")
def requests(exported):
    """By signature: all rows, each row alone, no rows."""

    def batches(columns):
        yield from hostile.rows_of(columns, len(TEXTS))
        yield from hostile.rows_of(columns, 1)
        yield hostile.no_rows(columns)

    return {
        name: list(batches(hostile.columns_of(signature, TEXTS, VOCABULARY)))
        for name, signature in hostile.signature_defs(exported).items()
    }


@pytest.fixture(scope="module")
def replies_in_cpp(exported, requests, cpp_runner):
    return {
        name: cpp_loader.run(cpp_runner, exported, batches, signature=name)
        for name, batches in requests.items()
    }


@pytest.fixture(scope="module", params=LOADERS)
def replies(request, exported, requests):
    """By signature: the replies that a loader gives."""
    if request.param == "C++":
        return request.getfixturevalue("replies_in_cpp")
    if request.param == "C++ 2.20":
        runner = request.getfixturevalue("runner_2_20")
        return {
            name: cpp_loader.run(runner, exported, batches, signature=name, packages=OTHER_PACKAGES)
            for name, batches in requests.items()
        }
    return run_in_python(request.param.removeprefix("Python "), exported, requests)


def run_in_python(version, model_dir, requests):
    program = Path(__file__).with_name("python_loader.py")
    lines = [
        json.dumps([name, {key: in_json(values) for key, values in columns.items()}]) + "\n"
        for name, batches in requests.items()
        for columns in batches
    ]
    done = subprocess.run(
        # -P: the folder of the program, which holds a numbers.py, is not looked into.
        [sys.executable, "-P", str(program), version, str(model_dir)],
        input="".join(lines),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outputs = iter(map(cpp_loader.outputs, done.stdout.splitlines()))
    return {name: [next(outputs) for _ in batches] for name, batches in requests.items()}


def in_json(values):
    """Texts in hexadecimal; NaN and infinities as Python's json writes and reads them."""
    return [value.encode().hex() if isinstance(value, str) else value for value in values]


def test_every_answer_is_sound(replies):
    for together, *alone, none in replies.values():
        hostile.assert_sound(together, len(TEXTS))
        hostile.assert_sound(none, 0)
        assert len(alone) == len(TEXTS)
        for reply in alone:
            hostile.assert_sound(reply, 1)


def test_a_row_alone_is_what_it_is_among_others(replies):
    for together, *alone, _ in replies.values():
        for row, reply in enumerate(alone):
            hostile.assert_same_row(
                hostile.row_of(together, row), hostile.row_of(reply, 0), tolerance=1e-4
            )


def test_no_rows_have_the_types_and_ranks_of_some(replies):
    for together, *_, none in replies.values():
        assert {name: (array.dtype, array.ndim) for name, array in none.items()} == {
            name: (array.dtype, array.ndim) for name, array in together.items()
        }


def test_all_loaders_say_the_same(replies, replies_in_cpp):
    for name, batches in replies.items():
        for reply, expected in zip(batches, replies_in_cpp[name], strict=True):
            assert set(reply) == set(expected)
            for key, array in expected.items():
                if array.dtype.kind == "f":
                    np.testing.assert_allclose(reply[key], array, rtol=1e-4, atol=1e-4)
                else:
                    np.testing.assert_array_equal(reply[key], array)


def test_what_they_say_is_what_the_translator_says(replies):
    expected = every_signature.translator().explain(TEXTS, every_signature.SEARCH)
    assert len({one.text for one in expected}) > len(TEXTS) // 2
    assert_says(replies["serving_default"][0], expected)
