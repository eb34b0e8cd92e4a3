"""Trains and scores one cell, in a process of its own.

    python -m benchmarks.table4.train SETTINGS

SETTINGS are JSON, see `main`. The folder then holds `result.json`. A training that was ended, in
whatever way, goes on from its last epoch; one that was ended by Ctrl-C at the same batch.
"""

import datetime
import json
import shutil
import sys
from pathlib import Path

import keras
import sacrebleu
import tensorflow as tf

from benchmarks import kept
from benchmarks.peers import multi30k
from benchmarks.table4.cells import (
    BATCH,
    DROPOUT,
    HEADLINE,
    MAX_LENGTH,
    PEAK_RATE,
    UNITS,
    UPDATES,
    VOCABULARY,
    Cell,
)
from benchmarks.table4.clock import Clock, Timetable
from benchmarks.table4.readings import Readings, test_scores
from keras_luong import MaskedCrossentropy, SubwordTokenizer, Translator, luong_seq2seq, read_pairs

_FOR_EVER = 1_000_000  # epochs: the clock ends it


def tokenizer_for(path: Path, pairs: list[tuple[str, str]]) -> SubwordTokenizer:
    """The same for all cells."""
    if not path.exists():
        texts = [text for pair in pairs for text in pair]
        SubwordTokenizer.train(texts, VOCABULARY).save(path)
    return SubwordTokenizer.load(path)


def compiled_model(cell: Cell, vocabulary_size: int) -> keras.Model:
    """B of RESULTS.md, but for the learning rate, which the clock sets."""
    model = luong_seq2seq(
        vocabulary_size,
        vocabulary_size,
        units=UNITS,
        tie_embeddings=True,
        dropout=DROPOUT,
        **cell.options(),
    )
    optimizer = keras.optimizers.Adam(
        PEAK_RATE, beta_2=0.98, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
    )
    model.compile(optimizer, MaskedCrossentropy(label_smoothing=0.1))
    return model


def train(cell: Cell, data: str, minutes: float, folder: Path, tokenizer: Path) -> dict:
    """What the cell came to."""
    commit = kept.commit()  # not what stands there when it is done
    keras.utils.set_random_seed(cell.seed)
    pairs, valid, test = (
        read_pairs(*multi30k.files(data, name)) for name in ("train", "val", "test_2016_flickr")
    )
    subwords = tokenizer_for(tokenizer, pairs)
    model = compiled_model(cell, subwords.vocabulary_size)
    translator = Translator(model, subwords, subwords, max_length=MAX_LENGTH)
    clock = Clock()
    folder.mkdir(parents=True, exist_ok=True)
    readings = Readings(
        folder / "readings.json",
        translator,
        clock,
        valid,
        test,
        test_at=UPDATES if cell == HEADLINE else None,
    )
    try:
        translator.fit(
            pairs,
            epochs=_FOR_EVER,
            batch_size=BATCH,
            seed=cell.seed,
            callbacks=[Timetable(clock, 60 * minutes, PEAK_RATE), readings],
            checkpoint_dir=folder / "checkpoints",
            verbose=2,
        )
    except KeyboardInterrupt:
        readings.save()  # the checkpoint is of this step
        raise
    # `fit` has put the averages into the model.
    return {
        "cell": vars(cell),
        "minutes": minutes,
        "updates": readings.rows[-1]["updates"],
        "parameters": model.count_params(),
        "rows": readings.rows,
        "test": test_scores(translator, test),
        "signature": str(_signature()),
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": kept.machine(),
        "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
    }


def _signature() -> object:
    metric = sacrebleu.BLEU()
    metric.corpus_score(["a"], [["a"]])  # it has none before
    return metric.get_signature()


def main() -> None:
    settings = json.loads(sys.argv[1])
    folder = Path(settings.pop("folder"))
    cell, tokenizer = Cell(**settings.pop("cell")), Path(settings.pop("tokenizer"))
    result = train(cell, folder=folder, tokenizer=tokenizer, **settings)
    unfinished = folder / "result.unfinished"
    unfinished.write_text(json.dumps(result, indent=1), encoding="utf-8")
    unfinished.rename(folder / "result.json")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from here.") from None
