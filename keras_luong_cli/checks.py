"""Mistakes that can be seen without TensorFlow, whose import takes seconds: paths and options."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from keras_luong_cli.option_types import AnyPath

_PARTS = ("model.keras", "source.tokenizer", "target.tokenizer", "translator.json")
_VERSIONS = "an integer from 1 without leading zeros, of 18 digits at most"
_JOINT, _SEPARATE = ("joint",), ("source", "target")


def check(options: argparse.Namespace) -> None:
    """Looks at what a command is given.

    Raises:
        OSError: For a path that is not there, that is in the way, or is of the wrong kind.
        ImportError: If a package is missing.
        ValueError: For options that contradict each other.
    """
    _OF_COMMANDS[options.command](options)


def _train(options: argparse.Namespace) -> None:
    text_files(options.source, options.target)
    text_files(*(options.valid or ()))
    if "-" in map(str, (options.source, options.target)) and "-" in map(str, options.valid or ()):
        raise ValueError("Only one of the files can be standard input.")
    if options.units % 2:  # the encoder reads both ways
        raise ValueError(f"--units must be even. Received: {options.units}")
    new(options.out)
    work = work_folder(options)
    folder_to_write(work)
    _same_vocabulary(work, options.separate, options.vocabulary)


def work_folder(options: argparse.Namespace) -> AnyPath:
    """Where a training keeps its state."""
    beside: AnyPath = options.out.parent / f"{options.out.name}.work"
    return options.work or beside


def tokenizer_names(separate: bool) -> tuple[str, ...]:
    """Of the files of tokenizers in a training's folder."""
    return tuple(f"{name}.tokenizer" for name in (_SEPARATE if separate else _JOINT))


def _same_vocabulary(work: AnyPath, separate: bool, size: int | None) -> None:
    """The folder of an earlier start has tokenizers, whose ids its checkpoints are of."""
    if any((work / name).exists() for name in tokenizer_names(not separate)):
        raise ValueError(
            f"{work} is of a training {'without' if separate else 'with'} --separate: name another "
            "--work, or remove that folder."
        )
    for path in (work / name for name in tokenizer_names(separate)):
        if size is not None and path.exists() and (found := _vocabulary_size(path)) != size:
            raise ValueError(
                f"{work} is of a training with a vocabulary of {found}: name another --work, or "
                f"remove that folder. Received: --vocabulary {size}"
            )


def _vocabulary_size(path: AnyPath) -> int:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes()).vocab_size()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r} is no tokenizer: remove its folder. {error}") from error


def _translate(options: argparse.Namespace) -> None:
    text_files(*(options.files or [Path("-")]))
    _search(options)
    translator(options.translator)


def _evaluate(options: argparse.Namespace) -> None:
    text_files(options.source, options.target)
    if options.out:
        new(options.out)
    _search(options)
    sacrebleu_tokenizer(options.tokenize)
    translator(options.translator)


def _export(options: argparse.Namespace) -> None:
    _search(options)
    width = beam_width(options)
    if options.n_best and options.search == "greedy":
        raise ValueError("--n-best is of --search beam.")
    if options.n_best and options.n_best > width:
        raise ValueError(f"--n-best must be at most --beam-width, {width}. It is {options.n_best}")
    version_or_folder(options.path)
    translator(options.translator)


def _check(options: argparse.Namespace) -> None:
    saved_model(options.saved_model)


def _serve_config(options: argparse.Namespace) -> None:
    saved_model(options.saved_model)
    path = options.saved_model.absolute()
    if not is_version(path.name):
        raise ValueError(
            f"An export's folder is named by its version, {_VERSIONS}. "
            f"Received: {str(options.saved_model)!r}"
        )
    _utf8(path, options.out.absolute())
    _check_model_name(model_name(options))
    folder_to_write(options.out)


def model_name(options: argparse.Namespace) -> str:
    """What the server is to call a model: by default as the folder of its versions."""
    given: str | None = options.name
    return options.saved_model.absolute().parent.name if given is None else given


def _check_model_name(name: str) -> None:
    """Checks what is to stand in a path of the server, and up to `/` or `:` in a request's URL."""
    _utf8(name)
    if name in ("", ".", "..") or set(name) & set("/:"):
        raise ValueError(
            f"A model's name must not be empty, . or .. and must have no / and no : in it: "
            f"give another with --name. Received: {name!r}"
        )


def _utf8(*names: Path | str) -> None:
    for name in map(str, names):
        try:
            name.encode()
        except UnicodeEncodeError as error:  # a file's name may be any bytes
            raise ValueError(f"A name must be UTF-8. Received: {name!r}") from error


_OF_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": _train,
    "translate": _translate,
    "evaluate": _evaluate,
    "export": _export,
    "check": _check,
    "serve-config": _serve_config,
}


def _search(options: argparse.Namespace) -> None:
    if options.search == "greedy":
        for name in ("beam_width", "length_penalty"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is of --search beam.")


def beam_width(options: argparse.Namespace) -> int:
    """That of the option, or its default."""
    return options.beam_width or 5


def text_files(*paths: AnyPath) -> None:
    """Checks that text files can be read; `-` is standard input, once."""
    if sum(str(path) == "-" for path in paths) > 1:
        raise ValueError("Only one of the files can be standard input.")
    for path in paths:
        if str(path) == "-":
            if sys.stdin is None:
                raise OSError("Standard input is closed.")
            continue
        if not path.exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} must be a text file. It is a folder.")
        if not _may(path, os.R_OK):
            raise PermissionError(f"{str(path)!r} may not be read.")


def new(path: AnyPath) -> None:
    """Checks that a path is free and can be written to."""
    if path.exists():
        raise FileExistsError(f"{str(path)!r} exists and is not overwritten.")
    folder_to_write(path.parent)


def folder_to_write(path: AnyPath) -> None:
    """Checks that a folder is one that can be written into, or can be made."""
    # Where there is a scheme, folders may come into being with the files in them.
    parents = path.absolute().parents if isinstance(path, Path) else ()
    there = next((one for one in (path, *parents) if one.exists()), None)
    if there is None:
        return
    if not there.is_dir():
        raise NotADirectoryError(f"{str(there)!r} must be a folder. It is a file.")
    if not _may(there, os.W_OK):
        raise PermissionError(f"{str(there)!r} may not be written to.")


def _may(path: AnyPath, mode: int) -> bool:
    return not isinstance(path, Path) or os.access(path, mode)


def version_or_folder(path: AnyPath) -> None:
    """Checks where an export is to be: a new version, or the folder of a model's versions."""
    if path.name.isdecimal():
        version(path)
    else:
        folder_to_write(path)


def version(path: AnyPath) -> None:
    """Checks that a path is a new version, as TF Serving counts them."""
    if not is_version(path.name):
        raise ValueError(
            f"TF Serving looks for versions: folders named by {_VERSIONS}, such as "
            f"saved_models/de_en/1. Received: {str(path)!r}"
        )
    new(path)


def is_version(name: str) -> bool:
    """Whether a folder's name is that of a version. TF Serving counts in 64 bits."""
    return re.fullmatch("[1-9][0-9]{0,17}", name) is not None


def translator(path: AnyPath) -> None:
    """Checks that a folder is one that `Translator.save` wrote."""
    missing = [name for name in _PARTS if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{str(path)!r} is no saved translator: {missing} not found.")


def saved_model(path: AnyPath) -> None:
    """Checks that a folder is a SavedModel."""
    if not (path / "saved_model.pb").is_file():
        raise FileNotFoundError(f"{str(path)!r} is no SavedModel: it has no saved_model.pb.")


def sacrebleu_tokenizer(name: str | None) -> None:
    """Checks that sacreBLEU is installed, and knows a tokenizer and has what it needs."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError("BLEU and chrF need sacreBLEU: pip install sacrebleu") from error
    known = sorted(sacrebleu.BLEU.TOKENIZERS)
    if name is not None and name not in known:
        raise ValueError(f"--tokenize must be one of {', '.join(known)}. Received: {name}")
    try:
        sacrebleu.BLEU(tokenize=name)
    except RuntimeError as error:  # of a package that the tokenizer needs
        raise ImportError(f"--tokenize {name}: {' '.join(str(error).split())}") from error
