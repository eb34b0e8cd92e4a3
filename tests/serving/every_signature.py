"""One export with every signature that there is, which several files of tests send requests to."""

from pathlib import Path

import pytest

from keras_luong import BeamSearch, SamplingSearch, Translator
from tests.serving.conftest import shared_by_workers
from tests.serving.numbers import tokenizer_of_numbers, untrained

SEARCH = BeamSearch(4, n_best=3, length_penalty="gnmt", alpha=0.5)
SAMPLE = SamplingSearch(num_samples=2, temperature=2.0, top_k=12)


def translator() -> Translator:
    """Always the same. Its weights are random, so that its answers differ as much as its texts."""
    return untrained(tokenizer_of_numbers())


def export(factory: pytest.TempPathFactory) -> Path:
    """Its export, made once a run of the tests."""

    def make(folder: Path) -> Path:
        translator().export(folder / "1", SEARCH, sample=SAMPLE)
        return folder / "1"

    return shared_by_workers(factory, "every_signature", make)
