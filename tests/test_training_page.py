"""What docs/training.md tells a user to write, run as it stands there, on less text."""

import re
import warnings
from pathlib import Path

import pytest

from tests.training.mortal import pairs

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
# Sizes that a test has no time for, each of which must be there.
SMALLER = {"8000": "14", "units=256": "units=8", "epochs=30": "epochs=4", "epochs=5": "epochs=2"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The names that the blocks define, and the folder in which they ran."""
    pytest.importorskip("sacrebleu")
    folder = tmp_path_factory.mktemp("page")
    for name, some in (("train", pairs()), ("valid", pairs()[:8])):
        for language, side in zip(("en", "de"), zip(*some, strict=True), strict=True):
            (folder / f"{name}.{language}").write_text("".join(f"{text}\n" for text in side))
    backwards = [range(len(source.split())) for source, _ in pairs()[:8]]
    lines = [" ".join(f"{len(row) - 1 - t}-{t}" for t in row) for row in backwards]
    (folder / "valid.links").write_text("\n".join(lines) + "\n")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
    for size, smaller in SMALLER.items():
        assert size in code
        code = code.replace(size, smaller)
    names = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("error", UserWarning)  # what Keras has to say of a program
        exec(compile(code, str(PAGE), "exec"), names)
    return names, folder


def test_what_was_filtered_is_counted(found):
    names, _ = found
    dropped = names["encoded"].dropped
    assert len(names["encoded"]) + sum(dropped.values()) == len(pairs())
    assert dropped["filter.copy"] > 0


def test_what_was_logged(found):
    names, folder = found
    assert {one.name for one in (folder / "logs" / "en_de").iterdir()} == {
        *("alignments", "hyper_parameters", "texts", "train", "validation")
    }
    assert len(list((folder / "work" / "checkpoints").iterdir())) == 3
    assert names["translator"].training_data[0]["pairs"] == len(pairs())


def test_alignments_are_of_every_word(found):
    names, _ = found
    for (source, target), links in zip(names["valid"], names["gold"], strict=True):
        assert len(links.sure) == len(source.split()) == len(target.split())
    words = sum(len(source.split()) for source, _ in names["valid"])
    assert names["alignments"].sum() >= words  # a row of 1 for each subword of a word
    assert set(names["guided"].history.history) >= {"loss"}
