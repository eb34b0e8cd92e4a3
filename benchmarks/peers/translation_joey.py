"""Worker of `translation.py` and `epoch.py` that runs in Joey NMT's environment.

    python translation_joey.py train CONFIG SECONDS
    python translation_joey.py serve CONFIG
    python translation_joey.py epoch CONFIG

CONFIG is what `joey_config.py` writes.
"""

import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

import joeynmt
import torch
from chunks import Chunks
from joeynmt.config import load_config, parse_global_args
from joeynmt.prediction import predict, prepare
from joeynmt.training import TrainManager
from worker import serve


def train(config: str, seconds: int) -> None:
    """Joey's own command, ended by the clock; Joey keeps its weights when it is interrupted."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    run_joey(config)


def run_joey(config: str) -> None:
    sys.argv = ["joeynmt", "train", config, "--skip-test"]
    runpy.run_module("joeynmt", run_name="__main__")


class Epoch:
    """Trains by chunks of updates: Joey's own command, held before each of its steps."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.chunks = Chunks(self._train)

    def _train(self, chunks: Chunks) -> None:
        train_step = TrainManager._train_step

        def held(manager: TrainManager, batch: Any) -> Any:
            self.model = manager.model
            chunks.before_update()
            return train_step(manager, batch)

        TrainManager._train_step = held
        run_joey(self.config)

    def describe(self) -> dict:
        """Starts it, too."""
        self.chunks.start()
        return describe(self.model)


def describe(model: torch.nn.Module) -> dict:
    size = sum(parameter.numel() for parameter in model.parameters())
    versions = f"Joey NMT {joeynmt.__version__}, torch {torch.__version__}"
    return {"versions": versions, "parameters": size}


class Translation:
    """The model of the best validation, and its test set, as `joeynmt test` loads them."""

    def __init__(self, config: str) -> None:
        self.settings = parse_global_args(load_config(Path(config)), rank=0, mode="test")
        # Metrics are the driver's work.
        self.settings = self.settings._replace(test=self.settings.test._replace(eval_metrics=[]))
        self.model, _, _, self.data = prepare(self.settings, rank=0, mode="test")
        self.texts = {lang: list(texts) for lang, texts in self.data.data.items()}

    def describe(self) -> dict:
        return describe(self.model)

    def translate(
        self, beam_width: int, batch_size: int, max_length: int, order: list[int]
    ) -> dict:
        """Times Joey's `predict` over all sentences in the given order, texts in and out."""
        for language, texts in self.texts.items():
            self.data.data[language] = [texts[index] for index in order]
        self.data.reset_indices(random_subset=-1)
        arguments = self.settings.test._replace(
            beam_size=beam_width,
            beam_alpha=-1,  # no length penalty
            batch_size=batch_size,
            max_output_length=max_length,
        )
        start = time.perf_counter()
        _, _, texts, pieces, _, _ = predict(
            model=self.model,
            data=self.data,
            device=self.settings.device,
            n_gpu=0,
            compute_loss=False,
            args=arguments,
            autocast=self.settings.autocast,
        )
        seconds = time.perf_counter() - start
        # Pieces hold the end token where there is one.
        results: dict[int, tuple] = dict(zip(order, zip(texts, pieces, strict=True), strict=True))
        return {
            "seconds": seconds,
            "texts": [results[index][0] for index in range(len(order))],
            "lengths": [len(results[index][1]) for index in range(len(order))],
        }


def main() -> None:
    mode, config, *seconds = sys.argv[1:]
    if mode == "train":
        train(config, int(seconds[0]))
        return
    if mode == "epoch":
        epoch = Epoch(config)
        serve({"describe": epoch.describe, "updates": epoch.chunks.updates})
        return
    translation = Translation(config)
    serve({"describe": translation.describe, "translate": translation.translate})


if __name__ == "__main__":
    main()
