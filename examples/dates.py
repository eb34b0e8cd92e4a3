"""Learns to rewrite written dates as ISO 8601: "the third of May 2021" -> "2021-05-03".

    make demo

Trains on dates in 49 formats and four languages, scores dates that were in no training pair in any
format, shows where the model looks, exports the next version under saved_models/dates/ and asks a
fresh process, which knows TensorFlow but not this package, to translate with it.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from written_dates import FORMATS, HELD_OUT_DATES, DatePair, held_out_pairs, training_pairs

from keras_luong_cli import checks, without_import_notes
from keras_luong_cli.option_types import local_path, positive, seed

HERE = Path(__file__).resolve().parent
SAMPLES = [
    "the third of May 2021",
    "Mon 3/5/21",
    "3 de mayo de 2021",
    "le 14 juillet 1989",
    "31. Dezember 1999",
    "5/3/2021 (US)",
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=positive, default=85_000, help="to train on (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=2, help="(%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=64, help="(%(default)s)")
    parser.add_argument("--units", type=positive, default=128, help="(%(default)s)")
    parser.add_argument("--held-out", type=positive, default=4_000, help="(%(default)s)")
    parser.add_argument("--seed", type=seed, default=1, help="(%(default)s)")
    parser.add_argument(
        "--out", type=local_path, help="default: the next version in saved_models/dates"
    )
    parser.add_argument(
        "--logs", type=local_path, default=Path("logs/dates"), help="for TensorBoard"
    )
    options = parser.parse_args()
    if options.held_out > HELD_OUT_DATES:
        parser.error(f"argument --held-out: must be at most {HELD_OUT_DATES}")
    # Mistakes are said before TensorFlow is imported: that takes seconds.
    try:
        if options.out:
            checks.version(options.out)
        checks.folder_to_write(options.logs)
    except (OSError, ValueError) as error:
        raise SystemExit(f"dates.py: {error}") from error
    return options


if __name__ == "__main__":
    OPTIONS = arguments()

with without_import_notes():
    import keras

    from keras_luong import (
        AttentionDecoder,
        AttentionDecoderCell,
        FastRNN,
        LuongAttention,
        MaskedCrossentropy,
        Seq2Seq,
        SubwordTokenizer,
        TokenAccuracy,
        Translator,
    )
    from keras_luong.serving import next_version
    from keras_luong.training import Alignment, draw_alignment


def date_model(source_ids: int, target_ids: int, units: int) -> Seq2Seq:
    """A model from parts, with an encoder that keeps the characters apart.

    The memory is the embedding beside a small GRU that reads both ways. The GRU is large enough to
    say what a digit is part of, and too small to carry the date to the end of the text: so the
    decoder has to look at the digits, and the alignments can be read.
    """
    source = keras.Input((None,), dtype="int32", name="source")
    words = keras.layers.Embedding(source_ids, 48, mask_zero=True)(source)
    gru = FastRNN(keras.layers.GRUCell(24), return_sequences=True)
    context = keras.layers.Bidirectional(gru)(words)
    encoder = keras.Model(source, keras.layers.Concatenate()([words, context]), name="encoder")
    cell = AttentionDecoderCell(keras.layers.GRUCell(units), LuongAttention("general"), units)
    embedding = keras.layers.ReversibleEmbedding(target_ids, units)
    return Seq2Seq(encoder, embedding, AttentionDecoder(cell))


def untrained(pairs: list[DatePair], units: int, steps: int) -> Translator:
    """A translator with tokenizers made from the pairs. Digits are subwords of their own."""
    sample = pairs[:30_000]
    source = SubwordTokenizer.train(
        [pair.source for pair in sample],
        256,
        exact=False,  # of few pairs it is smaller
        normalization="identity",
        split_digits=True,
    )
    target = SubwordTokenizer.train(
        [pair.target for pair in sample],
        16,
        exact=False,
        model_type="char",
        normalization="identity",
    )
    model = date_model(source.vocabulary_size, target.vocabulary_size, units)
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    model.compile(optimizer, loss=MaskedCrossentropy(), metrics=[TokenAccuracy()])
    return Translator(model, source, target, max_length=40)


def score(translator: Translator, pairs: list[DatePair]) -> None:
    """Prints the exact matches, in all and by format."""
    translations = translator.translate([pair.source for pair in pairs], batch_size=500)
    seen = Counter(pair.format_name for pair in pairs)
    right = Counter(
        pair.format_name
        for pair, translation in zip(pairs, translations, strict=True)
        if translation == pair.target
    )
    shares = {name: right[name] / seen[name] for name in seen}
    examples = {pair.format_name: pair.source for pair in pairs}
    print(f"\nExact matches on {len(pairs)} dates that no training pair had, by format:")
    for name in sorted(shares, key=lambda name: (shares[name], name)):
        print(f"  {shares[name]:7.1%}  {right[name]:3d} of {seen[name]:3d}  {examples[name]}")
    worst = min(shares, key=lambda name: shares[name])
    print(f"Worst format: {shares[worst]:.1%} ({worst})")
    print(f"In all: {sum(right.values()) / len(pairs):.2%} of {len(pairs)}")


def show(alignment: Alignment) -> None:
    """Prints where the model looked for each character it wrote, and draws it into a file."""
    print("\nWhere it looked (source subword with the greatest score, for each target subword):")
    for token, row in zip(alignment.target_tokens, alignment.scores, strict=True):
        best = int(row.argmax())
        print(f"  {token:>4}  <-  {alignment.source_tokens[best]}  ({row[best]:.2f})")


def translate_in_fresh_process(saved_model: Path, texts: list[str]) -> str:
    """What a process that never heard of this package says; `-I` keeps it off our path."""
    command = [sys.executable, "-I", str(HERE / "load_saved_model.py"), str(saved_model)]
    finished = subprocess.run(
        command, input="\n".join(texts), text=True, stdout=subprocess.PIPE, check=True
    )
    return finished.stdout


def main(options: argparse.Namespace) -> None:
    out = options.out or next_version(Path("saved_models/dates"))
    keras.utils.set_random_seed(options.seed)
    pairs = training_pairs(options.pairs, seed=options.seed)
    held_out = held_out_pairs(options.held_out, seed=options.seed)
    print(f"{len(pairs)} training pairs in {len(FORMATS)} formats, such as:")
    for pair in pairs[:5]:
        print(f"  {pair.source}  ->  {pair.target}")
    start = time.perf_counter()
    steps = options.epochs * (-(-len(pairs) // options.batch_size))
    translator = untrained(pairs, options.units, steps)
    translator.fit(
        [(pair.source, pair.target) for pair in pairs],
        epochs=options.epochs,
        batch_size=options.batch_size,
        buckets=2,
        seed=options.seed,
        log_dir=options.logs,
        alignment_texts=SAMPLES[:3],
        sample_pairs=[(pair.source, pair.target) for pair in held_out[:10]],
        verbose=1,
    )
    print(f"Trained in {time.perf_counter() - start:.0f} s.")
    score(translator, held_out)
    alignment = translator.align(SAMPLES[:1])[0]
    show(alignment)
    translator.export(out, "greedy")  # as it was scored
    picture = Path(options.logs, "alignment.png")
    draw_alignment(alignment).savefig(picture)
    print(f"\nExported to {out}; the alignment is drawn in {picture}.")
    print("A fresh process, without keras_luong, translates with it:")
    print(translate_in_fresh_process(out, SAMPLES))
    print(f"Everything took {time.perf_counter() - start:.0f} s.")
    print(f"See the training: .venv/bin/tensorboard --logdir {options.logs}")


if __name__ == "__main__":
    main(OPTIONS)
