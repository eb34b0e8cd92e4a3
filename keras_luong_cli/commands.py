"""What each command does, in terms of `keras_luong`."""

import argparse
import contextlib
import itertools
import json
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
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
from keras_luong.text import read_lines
from keras_luong.training import (
    locked_folder,
    locked_name,
    score_signatures,
    score_texts,
)
from keras_luong_cli.checks import beam_width, tokenizer_names, work_folder
from keras_luong_cli.ending import naming_standard_output
from keras_luong_cli.lines import one_line
from keras_luong_cli.new_files import write_new
from keras_luong_cli.option_types import AnyPath

# Subwords of a text that has so many, unless the user says how many there are to be.
_VOCABULARY = 8000
# Lines that are read before the first of them is translated.
_READ_AHEAD = 10_000
# The translator reads no more of a text, which is 64 characters for each subword that it may have.
_BYTES_A_SUBWORD = 256
# What `evaluate` prints, by the names that `score_texts` has for it.
_MEASURES = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact_match"}


def train(options: argparse.Namespace) -> int:
    """Trains a translator and saves it."""
    work = work_folder(options)
    with locked_folder(work), locked_name(options.out):
        _train(options, work)
    print(options.out)
    return 0


def _train(options: argparse.Namespace, work: AnyPath) -> None:
    pairs = read_pairs(options.source, options.target)
    valid = read_pairs(*options.valid) if options.valid else None
    keras.utils.set_random_seed(options.seed)
    sides = [[source for source, _ in pairs], [target for _, target in pairs]]
    texts = sides if options.separate else [sides[0] + sides[1]]
    tokenizers = [
        _tokenizer(work / name, side, options.vocabulary)
        for name, side in zip(tokenizer_names(options.separate), texts, strict=True)
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


def _tokenizer(path: AnyPath, texts: list[str], size: int | None) -> SubwordTokenizer:
    """That of an earlier start, whose checkpoints are of its ids; else a new one."""
    if path.exists():
        return SubwordTokenizer.load(path)
    try:
        tokenizer = SubwordTokenizer.train(texts, size or _VOCABULARY, exact=size is not None)
    except ValueError as error:
        raise ValueError(str(error).replace("`vocabulary_size`", "--vocabulary")) from error
    if size is None and tokenizer.vocabulary_size < _VOCABULARY:
        print(
            f"keras-luong train: note: the vocabulary has {tokenizer.vocabulary_size} subwords, "
            f"not {_VOCABULARY}: the texts hold no more.",
            file=sys.stderr,
        )
    tokenizer.save(path)
    return tokenizer


def translate(options: argparse.Namespace) -> int:
    """Translates lines as they come."""
    translator = Translator.load(options.translator, compile=False)
    search = _search(options)
    most = _BYTES_A_SUBWORD * (translator.max_length + 1)
    files = [read_lines(path, errors="replace", most=most) for path in options.files or ["-"]]
    for texts in _ready(itertools.chain.from_iterable(files), options.batch_size):
        lines = [_line(one, options.scores) for one in translator.explain(texts, search, verbose=0)]
        with naming_standard_output():
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
    return 0


def _line(translation: Any, scores: bool) -> bytes:
    score = f"{translation.score:.4f}\t" if scores else ""
    return f"{score}{one_line(translation.text)}\n".encode()


def _ready(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yields the lines that are there, `most` at a time: few from a slow pipe, but at once."""
    lines: queue.Queue[str | BaseException | None] = queue.Queue(_READ_AHEAD)

    def read() -> None:
        try:
            for text in texts:
                lines.put(text)
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
    pairs = read_pairs(options.source, options.target)
    sources, references = map(list, zip(*pairs, strict=True))
    translator = Translator.load(options.translator, compile=False)
    with contextlib.redirect_stdout(sys.stderr):  # the progress bar
        translations = translator.translate(
            sources, _search(options), batch_size=options.batch_size
        )
    found = score_texts(translations, references, list(_MEASURES), tokenize=options.tokenize)
    scores = {_MEASURES[name]: score for name, score in found.items()}
    text = json.dumps({name: round(score, 4) for name, score in scores.items()}, indent=2)
    for name, signature in score_signatures(list(_MEASURES), tokenize=options.tokenize).items():
        print(f"{_MEASURES[name]}: {signature}", file=sys.stderr)
    print(text)
    if options.out:
        write_new({options.out: text + "\n"})
    return 0


def export(options: argparse.Namespace) -> int:
    """Writes a SavedModel."""
    path = options.path if options.path.name.isdecimal() else next_version(options.path)
    check_version_path(path)
    translator = Translator.load(options.translator, compile=False)
    sample = SamplingSearch() if options.sample else None
    translator.export(
        path, _search(options), n_best=options.n_best, sample=sample, scores=options.scores
    )
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
    width = beam_width(options)
    if not options.length_penalty:
        return BeamSearch(width)
    return BeamSearch(width, length_penalty="gnmt", alpha=options.length_penalty)
