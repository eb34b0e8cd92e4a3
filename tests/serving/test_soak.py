"""A soak in TF Serving's loader: two threads, every signature, versions that change under load.

It lasts two minutes, or KERAS_LUONG_SOAK_SECONDS; an hour in `make test-long`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_luong.serving import cpp_loader
from tests.serving import every_signature, hostile
from tests.serving.conftest import OTHER_PACKAGES
from tests.serving.numbers import VOCABULARY

SHORT, HOUR = float(os.environ.get("KERAS_LUONG_SOAK_SECONDS", 120)), 3600.0
DATES = Path(__file__).parents[2] / "saved_models" / "dates_demo" / "1"
# What the process may grow by, of what it has allocated. What it holds grows with every version
# that is loaded and unloaded, since the C library's allocator keeps the holes between blocks.
FLAT = 0.02
# In two minutes most of a run is warming up: what a version needs for a signature is made when that
# is asked for the first time.
WARMING_UP = 0.25
# How requests end that no client should send. The loader does not look at ranks, so an axis too
# many is an error only where an op of the graph minds it.
EXPECTED_ERRORS = {
    "an axis too many: INVALID_ARGUMENT",
    "an input too few: INVALID_ARGUMENT",
    "another type: INVALID_ARGUMENT",
    "inputs of unequal rows: INVALID_ARGUMENT",
    "too little time: DEADLINE_EXCEEDED",
}


def growth(measures):
    """How much more memory the last tenth has than the first, once a quarter has warmed up."""
    begin, end = begin_and_end(measures)
    return end / begin - 1


def begin_and_end(measures):
    warm = measures[len(measures) // 4 :]
    tenth = max(1, len(warm) // 10)
    return float(np.median(warm[:tenth])), float(np.median(warm[-tenth:]))


def total(counts):
    return sum(counts["requests"].values())


def in_words(counts):
    memory = "; ".join(
        f"{begin / 1e6:.1f} MB {name} at the beginning, {end / 1e6:.1f} MB at the end"
        for name in ("allocated", "resident")
        for begin, end in [begin_and_end(counts[name])]
    )
    errors = ", ".join(f"{count} of {kind}" for kind, count in sorted(counts["errors"].items()))
    return (
        f"{counts['seconds']:.0f} s, {total(counts)} requests ({counts['without_rows']} without "
        f"rows), {counts['rows']} rows, {counts['wrong']} wrong, numbers at most "
        f"{counts['apart']:.1g} apart, {counts['failures']} failures, errors as expected: "
        f"{errors or 'none'}, {sum(counts['forgiven'].values())} answered all the same; "
        f"{counts['swaps']} swaps, {counts['finished_on_old']} requests "
        f"finished on the old version; {memory} ({len(counts['allocated'])} measures)"
    )


def rows_of(model, model_dir, texts):
    """The rows of a model for each of its signatures."""
    for name, signature in hostile.signature_defs(model_dir).items():
        columns = hostile.columns_of(signature, texts, VOCABULARY)
        for index in range(len(texts)):
            yield model, name, {key: values[index] for key, values in columns.items()}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions of an export with every signature, which say different things."""
    other = every_signature.translator()
    for variable in other.model.trainable_variables:
        variable.assign(0.9 * variable)
    second = tmp_path_factory.mktemp("other") / "2"
    other.export(second, every_signature.SEARCH, sample=every_signature.SAMPLE)
    return [every_signature.export(tmp_path_factory), second]


@pytest.mark.parametrize(
    ("seconds", "count"), [(SHORT, 40), pytest.param(HOUR, 1000, marks=pytest.mark.long)]
)
def test_a_server_under_load_stays_right_and_small(
    versions, runner_2_20, record_property, seconds, count
):
    texts = [*hostile.TEXTS.values(), *hostile.random_bytes(count, seed=13)][:count]
    rows = [*rows_of(0, DATES, texts), *rows_of(1, versions[0], texts)]
    rows += [(1, "ids", {"source_ids": ids}) for ids in hostile.IDS]
    counts = cpp_loader.soak(
        runner_2_20,
        [[DATES], versions],
        rows,
        seconds,
        swap=20,
        packages=OTHER_PACKAGES,
        timeout=1800,
    )
    record_property("soak", in_words(counts))
    assert counts["wrong"] == 0, counts["first_wrong"]
    assert counts["failures"] == 0, counts["first_failure"]
    assert set(counts["errors"]) <= EXPECTED_ERRORS, in_words(counts)
    assert all(kind.endswith("an axis too many") for kind in counts["forgiven"]), counts["forgiven"]
    assert len(counts["requests"]) == 7 and counts["rows"] > total(counts), in_words(counts)
    assert counts["swaps"] >= 1, in_words(counts)
    allowed = FLAT if seconds == HOUR else WARMING_UP
    assert growth(counts["allocated"]) < allowed, in_words(counts)


# What a soak must find.


def save(folder, outputs, **held):
    module = tf.Module()
    for name, value in held.items():
        setattr(module, name, value)
    specs = [tf.TensorSpec([None], tf.string, "text")]
    module.function = tf.function(outputs, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})
    return folder


def soak(runner, *model_dirs, seconds=2, swap=0):
    rows = [(0, "serving_default", {"text": text}) for text in ("", "a", "bcd", b"\xff")]
    counts = cpp_loader.soak(
        runner, [model_dirs], rows, seconds, swap=swap, packages=OTHER_PACKAGES
    )
    assert counts["rows"] > 0
    return counts


def test_what_cannot_be_soaked(tmp_path, runner_2_20):
    row = (1, "serving_default", {"text": "a"})
    for rows, seconds, error in (
        ([row], 1, "A row is for no model"),
        ([], 1, "No rows to ask"),
        ([row], 0.5, "--soak is at least 1"),
    ):
        with pytest.raises(cpp_loader.RunnerError, match=error):
            cpp_loader.soak(runner_2_20, [[tmp_path]], rows, seconds, packages=OTHER_PACKAGES)


def test_versions_that_are_sound(tmp_path, runner_2_20):
    def times(factor):
        return lambda text: {"length": factor * tf.strings.length(text), "text": text}

    first, second = (save(tmp_path / str(factor), times(factor)) for factor in (1, 2))
    counts = soak(runner_2_20, first, second, swap=0.2)
    assert (counts["wrong"], counts["failures"], counts["apart"]) == (0, 0, 0)
    assert counts["swaps"] >= 2 and counts["seconds"] >= 2
    assert counts["without_rows"] > 0 and counts["allocated"]


def test_a_row_that_depends_on_its_mates_is_wrong(tmp_path, runner_2_20):
    def outputs(text):
        lengths = tf.cast(tf.strings.length(text), tf.float32)
        return {"share": lengths / tf.maximum(1.0, tf.reduce_sum(lengths))}

    counts = soak(runner_2_20, save(tmp_path / "1", outputs))
    assert counts["wrong"] > 0 and "share of serving_default" in counts["first_wrong"]


def test_a_row_that_is_missing_is_wrong(tmp_path, runner_2_20):
    counts = soak(runner_2_20, save(tmp_path / "1", lambda text: {"text": text[:3]}))
    assert counts["wrong"] > 0 and "a batch of other rows" in counts["first_wrong"]


def test_something_beyond_the_end_of_a_row_is_wrong(tmp_path, runner_2_20):
    def outputs(text):
        lengths = tf.strings.length(text)
        return {"ones": tf.ones([tf.size(text), tf.reduce_max(tf.concat([lengths, [0]], 0))])}

    assert soak(runner_2_20, save(tmp_path / "1", outputs))["wrong"] > 0


def test_a_batch_that_fails_is_counted_and_the_others_go_on(tmp_path, runner_2_20):
    def outputs(text):
        with tf.control_dependencies([tf.debugging.assert_less(tf.size(text), 5, "so many")]):
            return {"text": tf.identity(text)}

    counts = soak(runner_2_20, save(tmp_path / "1", outputs))
    assert counts["failures"] > 1 and counts["wrong"] == 0
    assert "so many" in counts["first_failure"]


def test_memory_that_grows_is_seen(tmp_path, runner_2_20):
    held = tf.Variable([0.0], shape=[None])

    def outputs(text):
        held.assign(tf.concat([held, tf.ones([250_000])], 0))  # 1 MB
        return {"text": text}

    counts = soak(runner_2_20, save(tmp_path / "1", outputs, held=held), seconds=3)
    assert growth(counts["allocated"]) > FLAT
