r"""Trains a translator on parallel text, scores it and exports it for TF Serving.

    python examples/translate.py --train a.en a.de --valid v.en v.de --test t.en t.de \
        --out saved_models/en_de/1

Any two files with one sentence a line will do, plain or gzipped. Ctrl-C saves the training's state;
the same command goes on at the same batch. The test set is scored with sacreBLEU (13a, cased,
detokenized), as a beam search translates it.

With `--both-ways-epochs` the model first learns to translate in both directions. Then it translates
both sides of the training text, and goes on with the direction that is wanted: on the pairs, on its
translations of the sources, and on the targets with its translations of them as sources. Of 29,000
pairs it pays in two hours on two cores, and does not in one (benchmarks/RESULTS.md).
Sources: Ding, Wu and Tao 2021 (https://arxiv.org/abs/2109.07780) for the two directions; Nguyen,
Joty, Wu and Aw 2020 (https://arxiv.org/abs/1911.01986) for the translations.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

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

Pairs = list[tuple[str, str]]
TOKENIZER = "joint.tokenizer"
# Options that may change where a training goes on or is scored again.
NOT_OF_TRAINING = {"train", "valid", "test", "out", "work", "beam", "length_penalty", "xla"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    two_files = {"nargs": 2, "metavar": ("SOURCE", "TARGET")}
    parser.add_argument("--train", required=True, help="text to learn from", **two_files)
    parser.add_argument(
        "--valid",
        help="text to choose options by: its loss after every epoch, its BLEU in the end",
        **two_files,
    )
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
        "--consistency",
        type=float,
        default=0.0,
        help="weight of how far apart two passes may be; a step takes twice as long (%(default)s)",
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
    parser.add_argument(
        "--both-ways-epochs",
        type=int,
        default=0,
        help="before those, on both directions; each of --epochs is then three times as long",
    )
    parser.add_argument("--max-length", type=int, default=80, help="subwords (%(default)s)")
    parser.add_argument("--beam", type=int, default=5, help="of what is scored (%(default)s)")
    parser.add_argument(
        "--length-penalty", type=float, default=0.6, help="GNMT's exponent (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    parser.add_argument("--precision", choices=precisions, default="float32", help="(%(default)s)")
    parser.add_argument(
        "--xla",
        action=argparse.BooleanOptionalAction,
        help="compile the training step with XLA, once a shape (default: where there is a GPU)",
    )
    options = parser.parse_args()
    if options.both_ways_epochs < 0:
        parser.error(f"--both-ways-epochs must be at least 0. Received: {options.both_ways_epochs}")
    if options.work is None:
        options.work = Path("work", *(options.out.parts[-2:] if options.out else ("translate",)))
    return options


def of_training(options: argparse.Namespace) -> dict[str, Any]:
    """The options that stay the same wherever a training goes on."""
    return {name: value for name, value in vars(options).items() if name not in NOT_OF_TRAINING}


def check_same_training(options: argparse.Namespace) -> None:
    """Raises ValueError if the folder of this training is of one with other options."""
    path, given = options.work / "options.json", of_training(options)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else given
    other = [name for name in given if kept.get(name) != given[name]]
    if other:
        there, here = (
            ", ".join(f"{name}={of.get(name)}" for name in other) for of in (kept, given)
        )
        raise ValueError(
            f"{options.work} is of a training with {there}: name another --work, or remove that "
            f"folder. Received: {here}"
        )


def tokenizer_for(options: argparse.Namespace, pairs: Pairs) -> SubwordTokenizer:
    """The joint tokenizer of this training, the kept one if there is one."""
    path = options.work / TOKENIZER
    if path.exists():
        return SubwordTokenizer.load(path)
    return SubwordTokenizer.train([text for pair in pairs for text in pair], options.vocabulary)


def keep(options: argparse.Namespace, tokenizer: SubwordTokenizer) -> None:
    """Keeps the options and the tokenizer, of whose ids the checkpoints are."""
    if not (options.work / TOKENIZER).exists():
        options.work.mkdir(parents=True, exist_ok=True)
        text = json.dumps(of_training(options), indent=2)
        (options.work / "options.json").write_text(text, encoding="utf-8")
        tokenizer.save(options.work / TOKENIZER)


def new_model(options: argparse.Namespace, vocabulary_size: int) -> keras.Model:
    return luong_seq2seq(
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
        consistency=options.consistency,
    )


def fit(
    translator: Translator,
    options: argparse.Namespace,
    work: Path,
    epochs: int,
    train: Pairs,
    valid: Pairs | None = None,
    **kwargs: Any,
) -> keras.callbacks.History:
    """Trains from the weights as they are, with a schedule that is nearly 0 after these epochs.

    Batches that are not full make an epoch a few steps longer than counted here.
    """
    steps = -(-len(train) // options.batch_size) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=options.learning_rate, warmup_steps=min(400, steps // 10)
    )
    optimizer = keras.optimizers.Adam(
        schedule, beta_2=0.98, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
    )
    translator.model.compile(
        optimizer,
        loss=MaskedCrossentropy(label_smoothing=0.1),
        metrics=[TokenAccuracy()],
        jit_compile="auto" if options.xla is None else options.xla,
    )
    return translator.fit(
        train,
        valid,
        epochs=epochs,
        batch_size=options.batch_size,
        buckets=options.buckets,
        seed=options.seed,
        subword_sampling=options.subword_sampling,
        checkpoint_dir=work / "checkpoints",
        log_dir=work / "logs",
        **kwargs,
    )


def with_own_translations(
    translator: Translator, options: argparse.Namespace, train: Pairs, search: BeamSearch
) -> Pairs:
    """Learns both directions; returns the pairs, and each of their sides beside its translation."""
    work = options.work / "both-ways"
    sources, targets = map(list, zip(*train, strict=True))
    both = [*train, *zip(targets, sources, strict=True)]
    # One that is over, is over: this restores its weights.
    fit(translator, options, work, options.both_ways_epochs, both)
    texts = kept_translations(translator, work / "translations.json", sources + targets, search)
    of_sources, of_targets = texts[: len(train)], texts[len(train) :]
    own = [*zip(sources, of_sources, strict=True), *zip(of_targets, targets, strict=True)]
    # `Translator.fit` leaves out pairs with an empty side, and the schedule must not count them.
    return [*train, *(pair for pair in own if all(text.strip() for text in pair))]


def kept_translations(
    translator: Translator, path: Path, texts: list[str], search: BeamSearch
) -> list[str]:
    """The translations of texts, made once and kept in a file."""
    if not path.exists():
        translations = translator.translate(texts, search)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(translations), encoding="utf-8")
        unfinished.rename(path)
    kept: list[str] = json.loads(path.read_text(encoding="utf-8"))
    if len(kept) != len(texts):
        raise SystemExit(
            f"translate.py: {path} is of other training files: it has {len(kept)} translations, "
            f"and there are {len(texts)} texts. Name another --work, or remove its folder."
        )
    return kept


def bleu(translator: Translator, pairs: Pairs, search: BeamSearch) -> str:
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
        check_same_training(options)
        tokenizer = tokenizer_for(options, train)
        model = new_model(options, tokenizer.vocabulary_size)
        translator = Translator(model, tokenizer, tokenizer, max_length=options.max_length)
        keep(options, tokenizer)  # not before: what is refused leaves nothing
    except (OSError, ValueError) as error:
        raise SystemExit(f"translate.py: {error}") from error
    start = time.perf_counter()
    learnt = train
    if options.both_ways_epochs:
        learnt = with_own_translations(translator, options, train, search)
    start_of_last = time.perf_counter()
    history = fit(
        translator,
        options,
        options.work,
        options.epochs,
        learnt,
        valid,
        alignment_texts=[source for source, _ in (valid or train)[:4]],
        sample_pairs=(valid or train)[:10],
    )
    end = time.perf_counter()
    tokens = sum(map(len, tokenizer.tokenize([target for _, target in learnt]).to_list()))
    report = {
        "minutes of training since this start": round((end - start) / 60, 1),
        "target tokens a second": round(tokens * len(history.epoch) / (end - start_of_last)),
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
