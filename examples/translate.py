r"""Trains a translator on parallel text, scores it and exports it for TF Serving.

    python examples/translate.py --train a.en a.de --valid v.en v.de --test t.en t.de \
        --out saved_models/en_de/1

Any two files with one sentence a line will do, plain or gzipped. Ctrl-C saves the training's state;
the same command goes on at the same batch. The test set is scored with sacreBLEU (13a, cased,
detokenized), as a beam search translates it.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import keras

from keras_luong import (
    BeamSearch,
    MaskedCrossentropy,
    SubwordTokenizer,
    TokenAccuracy,
    Translator,
    luong_seq2seq,
    read_pairs,
)
from keras_luong.serving import check_version_path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    two_files = {"nargs": 2, "metavar": ("SOURCE", "TARGET")}
    parser.add_argument("--train", required=True, help="text to learn from", **two_files)
    parser.add_argument("--valid", help="text to choose by, scored after every epoch", **two_files)
    parser.add_argument("--test", help="text to score in the end", **two_files)
    parser.add_argument("--out", type=Path, help="where to export, e.g. saved_models/en_de/1")
    parser.add_argument(
        "--work", type=Path, help="tokenizer, checkpoints and logs; default: work/ and OUT's name"
    )
    parser.add_argument("--vocabulary", type=int, default=6000, help="joint subwords (%(default)s)")
    parser.add_argument("--units", type=int, default=512, help="depth (%(default)s)")
    parser.add_argument("--layers", type=int, default=1, help="layers (%(default)s)")
    parser.add_argument("--cell", choices=("lstm", "gru", "layer_norm_lstm"), default="lstm")
    parser.add_argument("--dropout", type=float, default=0.5, help="(%(default)s)")
    parser.add_argument(
        "--word-dropout", type=float, default=0.0, help="share of unknown words (%(default)s)"
    )
    parser.add_argument(
        "--subword-sampling",
        type=float,
        metavar="ALPHA",
        help="split into other subwords in every epoch, e.g. 0.2 (default: always the best)",
    )
    on_or_off = {"action": argparse.BooleanOptionalAction, "default": True}
    parser.add_argument(
        "--share-embeddings", help="read both languages with one embedding", **on_or_off
    )
    parser.add_argument(
        "--embeddings-in-memory", help="let attention hand on the words themselves", **on_or_off
    )
    parser.add_argument("--batch-size", type=int, default=64, help="pairs (%(default)s)")
    parser.add_argument(
        "--buckets", type=int, default=12, help="shapes of batches at most (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak (%(default)s)")
    parser.add_argument("--epochs", type=int, default=27, help="(%(default)s)")
    parser.add_argument("--max-length", type=int, default=80, help="subwords (%(default)s)")
    parser.add_argument("--beam", type=int, default=5, help="of what is scored (%(default)s)")
    parser.add_argument(
        "--length-penalty", type=float, default=0.6, help="GNMT's exponent (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    parser.add_argument("--precision", choices=precisions, default="float32", help="(%(default)s)")
    parser.add_argument(
        "--no-xla",
        action="store_true",
        help="train without XLA, which is faster with mixed_bfloat16 on a processor that has it",
    )
    options = parser.parse_args()
    if options.work is None:
        options.work = Path("work", *(options.out.parts[-2:] if options.out else ("translate",)))
    return options


def tokenizer_for(options: argparse.Namespace, pairs: list[tuple[str, str]]) -> SubwordTokenizer:
    """The joint tokenizer of this training: kept, because its checkpoints are of its ids."""
    path = options.work / "joint.tokenizer"
    if path.exists():
        return SubwordTokenizer.load(path)
    tokenizer = SubwordTokenizer.train(
        [text for pair in pairs for text in pair], options.vocabulary
    )
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


def compiled_model(options: argparse.Namespace, vocabulary_size: int, steps: int) -> keras.Model:
    model = luong_seq2seq(
        vocabulary_size,
        vocabulary_size,
        units=options.units,
        num_layers=options.layers,
        cell=options.cell,
        tie_embeddings=True,  # a quarter fewer weights, which learn more from so little text
        share_embeddings=options.share_embeddings,
        embeddings_in_memory=options.embeddings_in_memory,
        dropout=options.dropout,
        word_dropout=options.word_dropout,
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=options.learning_rate, warmup_steps=min(400, steps // 10)
    )
    optimizer = keras.optimizers.Adam(
        schedule, beta_2=0.98, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
    )
    loss = MaskedCrossentropy(label_smoothing=0.1)
    jit_compile = False if options.no_xla else "auto"
    model.compile(optimizer, loss=loss, metrics=[TokenAccuracy()], jit_compile=jit_compile)
    return model


def bleu(translator: Translator, pairs: list[tuple[str, str]], search: BeamSearch) -> str:
    import sacrebleu

    hypotheses = translator.translate([source for source, _ in pairs], search)
    metric = sacrebleu.BLEU()
    score = metric.corpus_score(hypotheses, [[target for _, target in pairs]])
    return f"{score} [{metric.get_signature()}]"


def main() -> None:
    options = arguments()
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    try:
        if options.out:
            check_version_path(options.out)
        search = BeamSearch(options.beam, length_penalty="gnmt", alpha=options.length_penalty)
        train = read_pairs(*options.train)
        valid = read_pairs(*options.valid) if options.valid else None
        test = read_pairs(*options.test) if options.test else None
        tokenizer = tokenizer_for(options, train)
    except (OSError, ValueError) as error:
        raise SystemExit(f"translate.py: {error}") from error
    steps = -(-len(train) // options.batch_size) * options.epochs
    model = compiled_model(options, tokenizer.vocabulary_size, steps)
    translator = Translator(model, tokenizer, tokenizer, max_length=options.max_length)
    start = time.perf_counter()
    history = translator.fit(
        train,
        valid,
        epochs=options.epochs,
        batch_size=options.batch_size,
        buckets=options.buckets,
        seed=options.seed,
        subword_sampling=options.subword_sampling,
        checkpoint_dir=options.work / "checkpoints",
        log_dir=options.work / "logs",
        alignment_texts=[source for source, _ in (valid or train)[:4]],
        sample_pairs=(valid or train)[:10],
    )
    seconds = time.perf_counter() - start
    tokens = sum(map(len, tokenizer.tokenize([target for _, target in train]).to_list()))
    report = {
        "minutes of training": round(seconds / 60, 1),
        "target tokens a second": round(tokens * len(history.epoch) / seconds),
        "peak memory in MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for name, pairs in (("valid", valid), ("test", test)):
        if pairs:
            report[name] = bleu(translator, pairs, search)
    print(json.dumps(report, indent=2))
    if options.out:
        translator.export(options.out, search)
        print(f"Exported to {options.out}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from the last checkpoint.") from None
