"""The dates demo: its committed model in TF Serving's loader, and the script from end to end."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from keras_luong.serving import cpp_loader, next_version
from tests.serving.conftest import cpp_runner  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

from written_dates import held_out_pairs  # noqa: E402

# Another export of the demo can be tested: KERAS_LUONG_DATES_MODEL=saved_models/dates/7.
MODEL = Path(os.environ.get("KERAS_LUONG_DATES_MODEL") or ROOT / "saved_models/dates_demo/1")

WRITTEN = {
    "the third of May 2021": "2021-05-03",
    "Mon 3/5/21": "2021-05-03",
    "le 14 juillet 1989": "1989-07-14",
    "3 de mayo de 2021": "2021-05-03",
    "31. Dezember 1999": "1999-12-31",
    "5/3/2021 (US)": "2021-05-03",
    "": "",
}


@pytest.fixture(scope="module")
def model():
    if not MODEL.is_dir():
        pytest.skip(f"there is no trained model at {MODEL}: make demo trains one")
    return MODEL


def test_the_loader_of_tf_serving_rewrites_dates(model, cpp_runner):  # noqa: F811
    batch, *alone = cpp_loader.run(
        cpp_runner, model, [list(WRITTEN), *([text] for text in WRITTEN)]
    )
    for row, (text, expected) in enumerate(WRITTEN.items()):
        assert batch["translation"][row].decode() == expected, text
        assert alone[row]["translation"][0].decode() == expected, text
        np.testing.assert_allclose(alone[row]["score"][0], batch["score"][row], atol=1e-4)


def test_the_model_is_small(model):
    assert sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) < 1_500_000


class Attention(NamedTuple):
    """What a served model says of one text."""

    translation: str
    source_tokens: list[str]
    target_tokens: list[str]
    scores: np.ndarray


def asked(model: Path, texts: list[str]) -> list[Attention]:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # the ops of the export

    outputs = tf.saved_model.load(str(model)).signatures["serving_default"](text=tf.constant(texts))
    outputs = {name: output.numpy() for name, output in outputs.items()}
    answers = []
    for row in range(len(texts)):
        source, target = outputs["source_length"][row], outputs["target_length"][row]
        answers.append(
            Attention(
                outputs["translation"][row].decode(),
                [token.decode() for token in outputs["source_tokens"][row, :source]],
                [token.decode() for token in outputs["target_tokens"][row, :target]],
                outputs["attention_scores"][row, :target, :source],
            )
        )
    return answers


def tokens_of(span: tuple[int, int], text: str, tokens: list[str]) -> list[int]:
    """Which subwords the characters `span` of a text lie in; the end token is the last one."""
    assert tokens[-1] == "</s>" and "".join(tokens[:-1]) == f"▁{text}".replace(" ", "▁")
    ends = np.cumsum([len(token) for token in tokens[:-1]])
    starts = np.concatenate([[0], ends[:-1]])
    start, end = span[0] + 1, span[1] + 1  # after the space that every text is given
    return np.flatnonzero((starts < end) & (ends > start)).tolist()


def test_characters_are_found_in_the_subwords():
    tokens = ["▁", "3", "▁Ma", "y", "▁2", "0", "21", "</s>"]
    assert tokens_of((0, 1), "3 May 2021", tokens) == [1]
    assert tokens_of((2, 5), "3 May 2021", tokens) == [2, 3]
    assert tokens_of((6, 10), "3 May 2021", tokens) == [4, 5, 6]


def years() -> list[tuple[str, str, int]]:
    """Held-out dates whose year is written with four digits: source, target and where it starts."""
    found = []
    for pair in held_out_pairs(1000, seed=3):
        # Once: in `20120120` nobody could say which 2012 is meant.
        starts = [match.start() for match in re.finditer(f"(?={pair.target[:4]})", pair.source)]
        if len(starts) == 1:
            found.append((pair.source, pair.target, starts[0]))
    return found


def test_the_digits_of_the_year_attend_to_the_year(model):
    dates = years()
    assert len(dates) > 700
    masses = []
    answers = asked(model, [source for source, _, _ in dates])
    for (source, target, start), answer in zip(dates, answers, strict=True):
        if answer.translation == target:
            written = tokens_of((0, 4), target, answer.target_tokens)
            assert "".join(answer.target_tokens[row] for row in written).strip("▁") == target[:4]
            read = tokens_of((start, start + 4), source, answer.source_tokens)
            masses.append(answer.scores[np.ix_(written, read)].sum(axis=1).mean())
    assert len(masses) > 0.95 * len(dates)  # the others are translated wrongly
    masses = np.array(masses)
    print(
        f"on the year: {masses.mean():.3f} of the attention, more than half in "
        f"{(masses > 0.5).mean():.1%} of {len(masses)} dates"
    )
    assert masses.mean() >= 0.5
    # Scores add up to 1, so this is more than on all the rest.
    assert (masses > 0.5).mean() >= 0.8


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user has it
    return subprocess.run(
        [sys.executable, "-u", str(EXAMPLES / "dates.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=500,
    )


def test_the_demo_runs_to_its_end_and_exports_the_next_version(tmp_path, cpp_runner):  # noqa: F811
    versions = tmp_path / "saved_models" / "dates"
    (versions / "1").mkdir(parents=True)
    (versions / "1" / "saved_model.pb").write_bytes(b"the demo before")
    tiny = ["--pairs", "600", "--epochs", "1", "--units", "8", "--held-out", "200"]
    done = run(tmp_path, *tiny, "--batch-size", "200", "--logs", "logs")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no notes of TensorFlow's, here and in the fresh process
    lines = done.stdout.splitlines()

    def after(start: str) -> list[str]:
        (index,) = (i for i, line in enumerate(lines) if line.startswith(start))
        return lines[index + 1 :]

    # Held-out matches: a line for each of the 49 formats, the worst first, then the sums.
    table = after("Exact matches on 200 dates that no training pair had")
    shares = [re.fullmatch(r" +([\d.]+)% +(\d+) of +(\d+)  \S.*", line) for line in table[:49]]
    assert all(shares)
    assert sum(int(share[3]) for share in shares) == 200
    percents = [float(share[1]) for share in shares]
    assert percents == sorted(percents)
    right = sum(int(share[2]) for share in shares)
    assert table[49].startswith(f"Worst format: {percents[0]}% (")
    assert table[50] == f"In all: {right / 200:.2%} of 200"
    # Where it looked: each target subword with one of the source.
    assert re.fullmatch(r" +\S+  <-  \S+  \([\d.]+\)", after("Where it looked")[0])
    assert (tmp_path / "logs" / "alignment.png").read_bytes().startswith(b"\x89PNG")
    # The export, and what a process without this package makes of it.
    assert "Exported to saved_models/dates/2;" in done.stdout
    assert sorted(path.name for path in versions.iterdir()) == ["1", "2"]
    assert (versions / "1" / "saved_model.pb").read_bytes() == b"the demo before"
    assert next_version(versions) == versions / "3"
    answers = after("A fresh process, without keras_luong, translates with it:")
    samples = [line.split("  ->  ")[0] for line in answers[:6]]
    assert set(samples) == set(WRITTEN) - {""}
    assert answers[6] == "(modules of keras_luong in this process: 0)"
    (served,) = cpp_loader.run(cpp_runner, versions / "2", [samples])
    assert [text.decode() for text in served["translation"]] == [
        line.split("  ->  ")[1] for line in answers[:6]
    ]
    assert list((tmp_path / "logs").glob("**/events.out.tfevents.*"))
