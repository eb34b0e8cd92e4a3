"""Worker of `translation.py`: keras_luong's `Translator`, as users run it.

    python translation_ours.py train SETTINGS
    python translation_ours.py serve FOLDER

SETTINGS are JSON, see `train`; FOLDER is what `Translator.save` wrote.
"""

import json
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf
import work
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


def tokenizer_for(path: Path, pairs: list[tuple[str, str]], vocabulary: int) -> SubwordTokenizer:
    if path.exists():
        return SubwordTokenizer.load(path)
    tokenizer = SubwordTokenizer.train([text for pair in pairs for text in pair], vocabulary)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


def train(settings: dict) -> None:
    """Trains as `examples/translate.py` does, whose folder `work` may be, and saves a translator.

    Where `work` holds checkpoints of all epochs nothing is left to train.
    """
    keras.utils.set_random_seed(settings["seed"])
    work = Path(settings["work"])
    pairs, valid = read_pairs(*settings["train"]), read_pairs(*settings["valid"])
    tokenizer = tokenizer_for(work / "joint.tokenizer", pairs, settings["vocabulary"])
    model = luong_seq2seq(
        tokenizer.vocabulary_size,
        tokenizer.vocabulary_size,
        units=settings["units"],
        num_layers=settings["layers"],
        tie_embeddings=True,
        dropout=settings["dropout"],
    )
    batch_size, epochs = 64, settings["epochs"]
    steps = -(-len(pairs) // batch_size) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=2e-3, warmup_steps=min(400, steps // 10)
    )
    optimizer = keras.optimizers.Adam(
        schedule, beta_2=0.98, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
    )
    loss = MaskedCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss=loss, metrics=[TokenAccuracy()])
    translator = Translator(model, tokenizer, tokenizer, max_length=settings["max_length"])
    translator.fit(
        pairs,
        valid,
        epochs=epochs,
        batch_size=batch_size,
        seed=settings["seed"],
        checkpoint_dir=work / "checkpoints",
        verbose=2,
    )
    translator.save(settings["out"])


class Translation:
    def __init__(self, folder: str) -> None:
        self.translator = Translator.load(folder)

    def describe(self) -> dict:
        versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
        model = self.translator.model
        return {
            "versions": versions,
            "parameters": model.count_params(),
            "units": model.decoder.cell.units,
            "layers": _recurrent_layers(model),
            "max_length": self.translator.max_length,
        }

    def save_vocabulary(self, path: str) -> list[str]:
        """Writes the joint SentencePiece model; returns its pieces in the order of their ids."""
        source, target = self.translator.source_tokenizer, self.translator.target_tokenizer
        if source.model != target.model:
            raise SystemExit("The translator needs one joint vocabulary: Joey gets it too.")
        source.save(path, overwrite=True)
        processor = SentencePieceProcessor(model_proto=source.model)
        return [processor.id_to_piece(index) for index in range(source.vocabulary_size)]

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

    def translate(self, texts: list[str], beam_width: int, batch_size: int, alpha: float) -> dict:
        """Times `explain`: texts in, texts out, with their tokens, scores and attention."""
        penalty = {"length_penalty": "gnmt", "alpha": alpha} if alpha > 0 else {}
        search = BeamSearch(beam_width, **penalty)
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
        train(json.loads(argument))
        return
    translation = Translation(argument)
    names = ("describe", "save_vocabulary", "save_weights", "source_ids", "texts_of", "translate")
    serve({name: getattr(translation, name) for name in names})


if __name__ == "__main__":
    main()
