"""The curve of a training: what its averaged weights score on the validation set, over time."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import sacrebleu

from benchmarks.table4.clock import Clock
from keras_luong import BeamSearch, Translator

Pairs = Sequence[tuple[str, str]]
SEARCHES = {"greedy": "greedy", "beam": BeamSearch(5)}


def bleu(translator: Translator, pairs: Pairs, search: Any = "greedy") -> float:
    """sacreBLEU's: 13a, cased, detokenized."""
    texts = translator.translate([source for source, _ in pairs], search, verbose=0)
    return sacrebleu.BLEU().corpus_score(texts, [[target for _, target in pairs]]).score


def perplexity(translator: Translator, pairs: Pairs) -> float:
    """Of a subword of the references, the end token counted."""
    sources, targets = zip(*pairs, strict=True)
    scored = translator.score(sources, targets, verbose=0)
    tokens = sum(len(one.target_tokens) for one in scored)
    return math.exp(-sum(one.log_prob for one in scored) / tokens)


def test_scores(translator: Translator, pairs: Pairs) -> dict[str, float]:
    return {name: bleu(translator, pairs, search) for name, search in SEARCHES.items()}


class Readings(keras.callbacks.Callback):
    """Reads after every epoch, and when the training ends; keeps rows, and the clock, in a file.

    A training that goes on from a checkpoint goes on at the time that this file has for its step:
    place the callback before the one that saves. What was read of later steps is forgotten.

    Args:
        path: The file, JSON.
        translator: What is trained.
        clock: The clock of the training.
        valid: Pairs to read.
        test: Pairs that are translated at `test_at` too.
        test_at: Updates after which there is one more reading, or `None`.
    """

    def __init__(
        self,
        path: Path,
        translator: Translator,
        clock: Clock,
        valid: Pairs,
        test: Pairs = (),
        test_at: int | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.translator = translator
        self.clock = clock
        self.valid, self.test, self.test_at = valid, test, test_at
        self.rows: list[dict[str, Any]] = []
        self._times: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        if self.path.exists():
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.rows = [row for row in found["rows"] if row["updates"] <= self._updates]
            self._times = {
                step: time for step, time in found["times"].items() if int(step) <= self._updates
            }
        self.clock.start(self._times[str(self._updates)] if self._updates else 0.0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._updates == self.test_at:
            self._read(self.test)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._read()
        self.save()

    def save(self) -> None:
        """Writes the file, with the time of this step."""
        self._times[str(self._updates)] = self.clock.seconds
        text = json.dumps({"rows": self.rows, "times": self._times}, indent=1)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, self.path)

    @property
    def _updates(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _read(self, test: Pairs = ()) -> None:
        averages = keras.callbacks.SwapEMAWeights()
        averages.set_model(self.model)
        averages.on_test_begin()  # into the model
        row = {
            "updates": self._updates,
            "seconds": self.clock.seconds,
            "perplexity": perplexity(self.translator, self.valid),
            "bleu": bleu(self.translator, self.valid),
        }
        if test:
            row["test"] = test_scores(self.translator, test)
        averages.on_test_end()
        self.rows.append(row)
        print(json.dumps(row), flush=True)
