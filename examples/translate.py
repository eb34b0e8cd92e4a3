r"""Trains a translator on parallel text, scores it and exports it for TF Serving.

    python examples/translate.py --train a.en a.de --valid v.en v.de --test t.en t.de \
        --out saved_models/en_de/1

Any two files with one sentence a line will do, plain or gzipped. Ctrl-C and SIGTERM save the
training's state; the same command goes on at the same batch. The test set is scored with sacreBLEU
(cased, detokenized; 13a, or another tokenizer with `--tokenize`), as a beam search translates it.

With `--both-ways-epochs` the model first learns to translate in both directions. Then it translates
both sides of the training text, and goes on with the direction that is wanted: on the pairs, on its
translations of the sources, and on the targets with its translations of them as sources. Of 29,000
pairs it pays in two hours on two cores, and does not in one (benchmarks/RESULTS.md).
Sources: Ding, Wu and Tao 2021 (https://arxiv.org/abs/2109.07780) for the two directions; Nguyen,
Joty, Wu and Aw 2020 (https://arxiv.org/abs/1911.01986) for the translations.
"""

import argparse
import contextlib
import json
import resource
import time
from pathlib import Path
from typing import Any

from keras_luong_cli import checks, without_import_notes
from keras_luong_cli.option_types import (
    AnyPath,
    above_zero,
    count,
    fraction,
    not_negative,
    path,
    positive,
    seed,
)

Pairs = list[tuple[str, str]]
TOKENIZER = "joint.tokenizer"
# Options that may change where a training goes on or is scored again.
NOT_OF_TRAINING = {
    *("train", "valid", "test", "out", "work", "beam", "length_penalty", "tokenize", "xla"),
}
VOCABULARY = 6000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    two_files = {"nargs": 2, "type": path, "metavar": ("SOURCE", "TARGET")}
    parser.add_argument("--train", required=True, help="text to learn from", **two_files)
    parser.add_argument(
        "--valid",
        help="text to choose options by: its loss after every epoch, its BLEU in the end",
        **two_files,
    )
    parser.add_argument("--test", help="text to score in the end", **two_files)
    parser.add_argument("--out", type=path, help="where to export, e.g. saved_models/en_de/1")
    parser.add_argument(
        "--work", type=path, help="tokenizer, checkpoints and logs; default: work/ and OUT's name"
    )
    parser.add_argument(
        "--vocabulary",
        type=positive,
        help=f"joint subwords ({VOCABULARY}, or as many as the text allows where that is fewer)",
    )
    parser.add_argument("--units", type=positive, default=512, help="depth (%(default)s)")
    parser.add_argument("--layers", type=positive, default=1, help="layers (%(default)s)")
    parser.add_argument("--cell", choices=("lstm", "gru", "layer_norm_lstm"), default="lstm")
    parser.add_argument("--dropout", type=fraction, default=0.5, help="(%(default)s)")
    parser.add_argument(
        "--word-dropout", type=fraction, default=0.0, help="share of unknown words (%(default)s)"
    )
    parser.add_argument(
        "--consistency",
        type=not_negative,
        default=0.0,
        help="weight of how far apart two passes may be; a step takes twice as long (%(default)s)",
    )
    parser.add_argument(
        "--subword-sampling",
        type=above_zero,
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
    parser.add_argument("--batch-size", type=positive, default=64, help="pairs (%(default)s)")
    parser.add_argument(
        "--buckets", type=positive, default=12, help="shapes of batches at most (%(default)s)"
    )
    parser.add_argument(
        "--learning-rate", type=above_zero, default=1.5e-3, help="peak (%(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=27, help="(%(default)s)")
    parser.add_argument(
        "--both-ways-epochs",
        type=count,
        default=0,
        help="before those, on both directions; each of --epochs is then three times as long",
    )
    parser.add_argument("--max-length", type=positive, default=80, help="subwords (%(default)s)")
    parser.add_argument("--beam", type=positive, default=5, help="of what is scored (%(default)s)")
    parser.add_argument(
        "--length-penalty", type=not_negative, default=0.6, help="GNMT's exponent (%(default)s)"
    )
    parser.add_argument("--tokenize", help="sacreBLEU's tokenizer for BLEU, such as zh (13a)")
    parser.add_argument("--seed", type=seed, default=1, help="(%(default)s)")
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    parser.add_argument("--precision", choices=precisions, default="float32", help="(%(default)s)")
    parser.add_argument(
        "--xla",
        action=argparse.BooleanOptionalAction,
        help="compile the training step with XLA, once a shape (default: where there is a GPU)",
    )
    options = parser.parse_args()
    if options.work is None:
        names = (options.out.parent.name, options.out.name) if options.out else ("translate",)
        options.work = Path("work", *names)
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


def begin() -> argparse.Namespace:
    """The options, which are looked at before TensorFlow is imported: that takes seconds."""
    options = arguments()
    try:
        checks.text_files(*options.train, *(options.valid or ()), *(options.test or ()))
        if options.valid or options.test:
            checks.sacrebleu_tokenizer(options.tokenize)
        if options.out:
            checks.version(options.out)
        if options.units % 2:
            raise ValueError(f"--units must be even. Received: {options.units}")
        checks.folder_to_write(options.work)
        check_same_training(options)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"translate.py: {error}") from error
    return options


if __name__ == "__main__":
    OPTIONS = begin()

with without_import_notes():
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
    from keras_luong.folders import whole_file
    from keras_luong.training import locked_folder, locked_name, score_signatures, score_texts


def tokenizer_for(options: argparse.Namespace, pairs: Pairs) -> SubwordTokenizer:
    """The joint tokenizer of this training, the kept one if there is one."""
    path = options.work / TOKENIZER
    if path.exists():
        return SubwordTokenizer.load(path)
    texts, size = [text for pair in pairs for text in pair], options.vocabulary
    try:
        tokenizer = SubwordTokenizer.train(texts, size or VOCABULARY, exact=size is not None)
    except ValueError as error:
        raise ValueError(str(error).replace("`vocabulary_size`", "--vocabulary")) from error
    if size is None and tokenizer.vocabulary_size < VOCABULARY:
        print(f"The text has no more than {tokenizer.vocabulary_size} subwords: so many are taken.")
    return tokenizer


def keep(options: argparse.Namespace, tokenizer: SubwordTokenizer) -> None:
    """Keeps the options and the tokenizer, of whose ids the checkpoints are."""
    if not (options.work / TOKENIZER).exists():
        with whole_file(options.work / "options.json") as file:
            file.write_text(json.dumps(of_training(options), indent=2), encoding="utf-8")
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
    work: AnyPath,
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
    translator: Translator, path: AnyPath, texts: list[str], search: BeamSearch
) -> list[str]:
    """The translations of texts, made once and kept in a file."""
    if not path.exists():
        translations = translator.translate(texts, search)
        with whole_file(path) as file:
            file.write_text(json.dumps(translations), encoding="utf-8")
    kept: list[str] = json.loads(path.read_text(encoding="utf-8"))
    if len(kept) != len(texts):
        raise SystemExit(
            f"translate.py: {path} is of other training files: it has {len(kept)} translations, "
            f"and there are {len(texts)} texts. Name another --work, or remove its folder."
        )
    return kept


def bleu(translator: Translator, pairs: Pairs, search: BeamSearch, tokenize: str | None) -> str:
    sources, references = map(list, zip(*pairs, strict=True))
    hypotheses = translator.translate(sources, search)
    score = score_texts(hypotheses, references, ["bleu"], tokenize=tokenize)["bleu"]
    return f"BLEU = {score:.2f} [{score_signatures(['bleu'], tokenize=tokenize)['bleu']}]"


def main(options: argparse.Namespace | None = None) -> None:
    options = options or begin()
    with contextlib.ExitStack() as locks:
        try:
            locks.enter_context(locked_folder(options.work))
            if options.out:
                locks.enter_context(locked_name(options.out))
        except OSError as error:
            raise SystemExit(f"translate.py: {error}") from error
        run(options)


def run(options: argparse.Namespace) -> None:
    """All of it, from the files to the export."""
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    try:
        search = BeamSearch(options.beam, length_penalty="gnmt", alpha=options.length_penalty)
        train = read_pairs(*options.train)
        valid = read_pairs(*options.valid) if options.valid else None
        test = read_pairs(*options.test) if options.test else None
        tokenizer = tokenizer_for(options, train)
        model = new_model(options, tokenizer.vocabulary_size)
        translator = Translator(model, tokenizer, tokenizer, max_length=options.max_length)
        keep(options, tokenizer)  # not before: what raises leaves nothing
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
            report[name] = bleu(translator, pairs, search, options.tokenize)
    print(json.dumps(report, indent=2))
    if options.out:
        translator.export(options.out, search)
        print(f"Exported to {options.out}")


if __name__ == "__main__":
    try:
        main(OPTIONS)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from the last checkpoint.") from None
