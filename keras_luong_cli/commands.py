"""What each command does, in terms of `keras_luong`."""

import argparse
import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_luong import (
    BeamSearch,
    GreedySearch,
    SamplingSearch,
    SubwordTokenizer,
    Translator,
    luong_seq2seq,
    read_pairs,
)
from keras_luong.serving import check_saved_model, check_version_path, next_version
from keras_luong.training import check_scores, score_texts

# Lines that are read before the first of them is translated, and the most bytes of them at a time.
_READ_AHEAD = 10_000
_CHUNK = 65_536
# What `evaluate` prints, by the names that `score_texts` has for it.
_MEASURES = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact_match"}


def train(options: argparse.Namespace) -> int:
    """Trains a translator and saves it."""
    if options.out.exists():
        raise FileExistsError(f"{str(options.out)!r} exists and is not overwritten.")
    work = options.work or options.out.with_name(f"{options.out.name}.work")
    pairs = read_pairs(options.source, options.target)
    valid = read_pairs(*options.valid) if options.valid else None
    keras.utils.set_random_seed(options.seed)
    sides = [[source for source, _ in pairs], [target for _, target in pairs]]
    texts = sides if options.separate else [sides[0] + sides[1]]
    names = ("source", "target") if options.separate else ("joint",)
    tokenizers = [
        _tokenizer(work / f"{name}.tokenizer", side, options.vocabulary)
        for name, side in zip(names, texts, strict=True)
    ]
    model = luong_seq2seq(
        tokenizers[0].vocabulary_size,
        tokenizers[-1].vocabulary_size,
        units=options.units,
        num_layers=options.layers,
        cell=options.cell,
        dropout=options.dropout,
    )
    translator = Translator(model, tokenizers[0], tokenizers[-1], max_length=options.max_length)
    translator.fit(
        pairs,
        valid,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        checkpoint_dir=work / "checkpoints",
        log_dir=work / "logs",
        alignment_texts=[source for source, _ in (valid or pairs)[:4]],
        sample_pairs=(valid or pairs)[:10],
    )
    translator.save(options.out)
    print(options.out)
    return 0


def _tokenizer(path: Path, texts: list[str], size: int) -> SubwordTokenizer:
    """That of an earlier start, whose checkpoints are of its ids; else a new one."""
    if path.exists():
        tokenizer = SubwordTokenizer.load(path)
        if tokenizer.vocabulary_size != size:
            raise ValueError(
                f"{path.parent} is of a training with a vocabulary of {tokenizer.vocabulary_size}: "
                f"name another --work, or remove that folder. Received: {size}"
            )
        return tokenizer
    tokenizer = SubwordTokenizer.train(texts, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


def translate(options: argparse.Namespace) -> int:
    """Translates lines as they come."""
    with contextlib.ExitStack() as stack:
        # What is not there is said before anything is loaded.
        files = [stack.enter_context(path.open("rb")) for path in options.files]
        translator = Translator.load(options.translator, compile=False)
        search = _search(options)
        for texts in _ready(files or [standard_input()], options.batch_size):
            for one in translator.explain(texts, search, verbose=0):
                sys.stdout.buffer.write(_line(one, options.scores))
            sys.stdout.buffer.flush()
    return 0


def standard_input() -> Iterator[bytes]:
    """The lines of standard input, read without a file of Python's.

    Such a file is closed in the end, and Python aborts or hangs there if a thread still waits for a
    line of it.
    """
    rest = b""
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _line(translation: Any, scores: bool) -> bytes:
    score = f"{translation.score:.4f}\t" if scores else ""
    # A translation with a line break in it would put all that follow out of step.
    return (score + " ".join(translation.text.splitlines()) + "\n").encode()


def _ready(files: Sequence[Iterable[bytes]], most: int) -> Iterator[list[str]]:
    """Yields the lines that are there, `most` at a time: few from a slow pipe, but at once."""
    lines: queue.Queue[str | BaseException | None] = queue.Queue(_READ_AHEAD)

    def read() -> None:
        try:
            for file in files:
                for line in file:
                    lines.put(line.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r"))
            lines.put(None)
        except BaseException as error:
            lines.put(error)

    threading.Thread(target=read, daemon=True).start()
    batch: list[str] = []
    while True:
        one = lines.get()
        if isinstance(one, str):
            batch.append(one)
        if batch and (not isinstance(one, str) or len(batch) == most or lines.empty()):
            yield batch
            batch = []
        if isinstance(one, BaseException):
            raise one
        if one is None:
            return


def evaluate(options: argparse.Namespace) -> int:
    """Prints what sacreBLEU says of translations."""
    if options.out and options.out.exists():
        raise FileExistsError(f"{str(options.out)!r} exists and is not overwritten.")
    check_scores(list(_MEASURES))
    pairs = read_pairs(options.source, options.target)
    sources, references = map(list, zip(*pairs, strict=True))
    translator = Translator.load(options.translator, compile=False)
    with contextlib.redirect_stdout(sys.stderr):  # the progress bar
        translations = translator.translate(
            sources, _search(options), batch_size=options.batch_size
        )
    found = score_texts(translations, references, list(_MEASURES))
    scores = {_MEASURES[name]: score for name, score in found.items()}
    text = json.dumps({name: round(score, 4) for name, score in scores.items()}, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


def export(options: argparse.Namespace) -> int:
    """Writes a SavedModel."""
    path = options.path if options.path.name.isdecimal() else next_version(options.path)
    check_version_path(path)
    scores = json.loads(options.scores.read_text(encoding="utf-8")) if options.scores else None
    if scores is not None and not isinstance(scores, dict):
        raise ValueError(f"{str(options.scores)!r} must hold an object: scores by name.")
    translator = Translator.load(options.translator, compile=False)
    sample = SamplingSearch() if options.sample else None
    translator.export(path, _search(options), n_best=options.n_best, sample=sample, scores=scores)
    print(path)
    return 0


def check(options: argparse.Namespace) -> int:
    """Says whether TF Serving can run a SavedModel."""
    report = check_saved_model(options.saved_model, options.release, runs=not options.no_run)
    having = sum(report.release in releases for releases in report.ops.values())
    print(f"{len(report.ops)} kinds of ops, {having} of them in TF Serving {report.release}")
    if options.ops:
        for op, releases in report.ops.items():
            print(f"  {op:40} {' '.join(releases) or 'in no release'}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"TF Serving {report.release} can{'not' if report.problems else ''} serve it.")
    return 1 if report.problems else 0


def _search(options: argparse.Namespace) -> Any:
    if options.search == "greedy":
        return GreedySearch()
    if not options.length_penalty:
        return BeamSearch(options.beam_width)
    return BeamSearch(options.beam_width, length_penalty="gnmt", alpha=options.length_penalty)
