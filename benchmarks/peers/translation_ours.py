"""Worker of `translation.py` and `epoch.py`: keras_luong's `Translator`, as users run it.

    python translation_ours.py train SETTINGS
    python translation_ours.py serve FOLDER
    python translation_ours.py epoch SETTINGS

SETTINGS are JSON, see `Training`; FOLDER is what `Translator.save` wrote.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import work
from chunks import Chunks
from peer_weights import save_weights
from sentencepiece import SentencePieceProcessor
from worker import serve

from keras_luong import (
    BeamSearch,
    MaskedCrossentropy,
    SubwordTokenizer,
    TokenAccuracy,
    Translator,
    luong_seq2seq,
    read_pairs,
)

VERSIONS = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"


def tokenizer_for(path: Path, pairs: list[tuple[str, str]], vocabulary: int) -> SubwordTokenizer:
    if path.exists():
        return SubwordTokenizer.load(path)
    tokenizer = SubwordTokenizer.train([text for pair in pairs for text in pair], vocabulary)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


class Training:
    """A training as `examples/translate.py` has it with the options of B in RESULTS.md.

    That one's work folder may be `work`.
    """

    def __init__(self, settings: dict) -> None:
        keras.utils.set_random_seed(settings["seed"])
        self.settings = settings
        self.work = Path(settings["work"])
        self.pairs = read_pairs(*settings["train"])
        tokenizer = tokenizer_for(self.work / "joint.tokenizer", self.pairs, settings["vocabulary"])
        model = luong_seq2seq(
            tokenizer.vocabulary_size,
            tokenizer.vocabulary_size,
            units=settings["units"],
            num_layers=settings["layers"],
            tie_embeddings=True,
            dropout=settings["dropout"],
        )
        steps = -(-len(self.pairs) // settings["batch_size"]) * settings["epochs"]
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=2e-3, warmup_steps=min(400, steps // 10)
        )
        optimizer = keras.optimizers.Adam(
            schedule, beta_2=0.98, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
        )
        loss = MaskedCrossentropy(label_smoothing=0.1)
        model.compile(optimizer, loss=loss, metrics=[TokenAccuracy()])
        self.translator = Translator(model, tokenizer, tokenizer, max_length=settings["max_length"])

    def fit(self, **arguments: Any) -> None:
        names = ("epochs", "batch_size", "seed")
        same = {name: self.settings[name] for name in names}
        self.translator.fit(self.pairs, **same, **arguments)

    def run(self) -> None:
        """Trains to the end; where `work` holds checkpoints of all epochs nothing is left to do."""
        checkpoints = self.work / "checkpoints"
        valid = read_pairs(*self.settings["valid"])
        self.fit(validation_data=valid, checkpoint_dir=checkpoints, verbose=2)
        self.translator.save(self.settings["out"])


class BeforeUpdate(keras.callbacks.Callback):
    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self.chunks = chunks

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.chunks.before_update()


class Epoch:
    """Trains by chunks of updates."""

    def __init__(self, settings: dict) -> None:
        self.training = Training(settings)
        self.chunks = Chunks(self._train)

    def _train(self, chunks: Chunks) -> None:
        self.before_update = BeforeUpdate(chunks)
        self.training.fit(callbacks=[self.before_update], verbose=0)

    def describe(self) -> dict:
        """Starts it, too."""
        self.chunks.start()
        return {
            "versions": VERSIONS,
            "parameters": self.training.translator.model.count_params(),
            "epoch_updates": self.before_update.params["steps"],
        }

    def save_vocabulary(self, path: str) -> list[str]:
        return save_vocabulary(self.training.translator, path)

    def lengths(self) -> list[tuple[int, int]]:
        """Tokens of source and target, the end token included, of what is trained on."""
        processor = SentencePieceProcessor(
            model_proto=self.training.translator.source_tokenizer.model
        )
        sides = [
            processor.encode([pair[side] for pair in self.training.pairs]) for side in range(2)
        ]
        longest = self.training.translator.max_length
        pairs = [(len(source), len(target)) for source, target in zip(*sides, strict=True)]
        return [(1 + a, 1 + b) for a, b in pairs if min(a, b) > 0 and max(a, b) <= longest]


def save_vocabulary(translator: Translator, path: str) -> list[str]:
    """Writes the joint SentencePiece model; returns its pieces in the order of their ids."""
    source, target = translator.source_tokenizer, translator.target_tokenizer
    if source.model != target.model:
        raise SystemExit("The translator needs one joint vocabulary: Joey gets it too.")
    source.save(path, overwrite=True)
    processor = SentencePieceProcessor(model_proto=source.model)
    return [processor.id_to_piece(index) for index in range(source.vocabulary_size)]


class Translation:
    def __init__(self, folder: str) -> None:
        self.translator = Translator.load(folder, compile=False)

    def describe(self) -> dict:
        model = self.translator.model
        return {
            "versions": VERSIONS,
            "parameters": model.count_params(),
            "units": model.decoder.cell.units,
            "layers": _recurrent_layers(model),
        }

    def save_vocabulary(self, path: str) -> list[str]:
        return save_vocabulary(self.translator, path)

    def save_weights(self, path: str) -> dict:
        """For tfa, which takes them over; says how large the model is."""
        model = self.translator.model
        save_weights(model, path)
        return {
            "vocabulary": model.vocabulary_size,
            "embedding": model.target_embedding.output_dim,
            "encoder_units": model.encoder.get_layer("both_lstm_0").forward_layer.cell.units,
            "units": model.decoder.cell.units,
        }

    def source_ids(self, texts: list[str]) -> list[list[int]]:
        processor = SentencePieceProcessor(model_proto=self.translator.source_tokenizer.model)
        return [[*processor.encode(text), work.END_ID] for text in texts]

    def texts_of(self, ids: list[list[int]]) -> list[str]:
        processor = SentencePieceProcessor(model_proto=self.translator.target_tokenizer.model)
        return [processor.decode([one for one in row if one != work.END_ID]) for row in ids]

    def translate(self, texts: list[str], beam_width: int, batch_size: int) -> dict:
        """Times `explain`: texts in, texts out, with their tokens, scores and attention."""
        search = BeamSearch(beam_width)
        start = time.perf_counter()
        results = self.translator.explain(texts, search, batch_size=batch_size, verbose=0)
        return {
            "seconds": time.perf_counter() - start,
            "texts": [result.text for result in results],
            # The end token is one of them.
            "lengths": [len(result.target_tokens) for result in results],
        }


def _recurrent_layers(model: keras.Model) -> int:
    return sum(isinstance(layer, keras.layers.Bidirectional) for layer in model.encoder.layers)


def main() -> None:
    mode, argument = sys.argv[1:]
    if mode == "train":
        Training(json.loads(argument)).run()
        return
    if mode == "epoch":
        epoch = Epoch(json.loads(argument))
        names = ("describe", "save_vocabulary", "lengths")
        answers = {name: getattr(epoch, name) for name in names}
        serve({**answers, "updates": epoch.chunks.updates})
        return
    translation = Translation(argument)
    names = ("describe", "save_vocabulary", "save_weights", "source_ids", "texts_of", "translate")
    serve({name: getattr(translation, name) for name in names})


if __name__ == "__main__":
    main()
