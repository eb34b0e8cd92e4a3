"""What the command line says. What it does stands in `commands`, imported when it is done."""

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from keras_luong_cli.checks import check
from keras_luong_cli.ending import (
    TERMINATED,
    drop_unwritten,
    ending_at_sigterm,
    naming_standard_output,
    open_streams,
    say,
)
from keras_luong_cli.import_notes import without_import_notes
from keras_luong_cli.option_types import (
    address,
    fraction,
    local_path,
    not_negative,
    path,
    positive,
    scores,
    seed,
)

_DESCRIPTION = """\
Attention sequence-to-sequence models, from two text files to a served model:

  keras-luong train train.en train.de --valid valid.en valid.de --out en_de
  echo "A dog runs." | keras-luong translate en_de
  keras-luong evaluate en_de test.en test.de --out scores.json
  keras-luong export en_de saved_models/en_de --scores scores.json
  keras-luong check saved_models/en_de/1
  keras-luong serve-config saved_models/en_de/1 --out serving

keras-luong COMMAND --help says more of each. A path may have a scheme that TensorFlow has a file
system for, such as gs://bucket/en_de, but for serve-config.
"""
_EXIT = """\
exit status: 0 all is well, 1 a check failed, 2 the command cannot be done as it was given,
130 stopped by Ctrl-C, 143 by SIGTERM.
"""
_TRAIN = """\
Learns to translate from two files with one sentence a line, plain or gzipped, line n of one being
the translation of line n of the other, and writes a translator into a new folder.

  keras-luong train train.en train.de --out en_de
  keras-luong train train.en.gz train.de.gz --valid valid.en valid.de --epochs 28 --out en_de
  tensorboard --logdir en_de.work/logs

Ctrl-C stops and loses nothing, and so does SIGTERM: the same command goes on at the same batch.
What is needed for that is in OUT.work, which may be deleted afterwards. Two cannot train there at
once.
"""
_TRANSLATE = """\
Translates lines of standard input, or of files, to standard output: one line for each, in order,
as soon as it is there. Files are plain or gzipped (.gz), and - is standard input. Bytes that are
not UTF-8 count as U+FFFD. An empty line gives an empty line.

  echo "A dog runs." | keras-luong translate en_de
  keras-luong translate en_de news.en.gz > news.de
  tail -f log | keras-luong translate en_de --search greedy
  keras-luong translate en_de --scores < news.en | sort -g

TRANSLATOR is a folder that `keras-luong train` or Translator.save wrote. Load only what you trust.
"""
_EVALUATE = """\
Translates one file and compares with another: BLEU and chrF as sacreBLEU counts them (cased,
detokenized; pip install sacrebleu), and the share of exact matches. Prints JSON, and sacreBLEU's
signatures to standard error. Text without spaces needs another tokenizer: zh is for Chinese,
ja-mecab for Japanese (pip install 'sacrebleu[ja]'), char for Thai and others.

  keras-luong evaluate en_de test.en test.de
  keras-luong evaluate en_de test.en test.de --out scores.json
  keras-luong evaluate en_zh test.en test.zh --tokenize zh
"""
_EXPORT = """\
Exports a SavedModel that the stock TF Serving loads as it is, with warm-up requests and a card.
PATH is a version (saved_models/en_de/3) or a model's folder, in which the next free version is
taken. Nothing is overwritten. Prints where it was written.

  keras-luong export en_de saved_models/en_de
  keras-luong export en_de saved_models/en_de/7 --search beam --beam-width 8 --n-best 3
"""
_CHECK = """\
Reads a SavedModel, whoever wrote it, and says whether the stock TF Serving of a release can run
and batch it: op by op, no XLA, no cuDNN, no Python, inputs and outputs dense with the batch first.
Then runs it in the loader that TF Serving is built on, where there is a C++ compiler.

  keras-luong check saved_models/en_de/1
  keras-luong check saved_models/en_de/1 --release 2.19 --ops
  keras-luong check from_elsewhere/1 --no-run

A SavedModel is a program: it can read and write files when it runs. With --no-run it is only read.
"""
_SERVE_CONFIG = """\
Writes models.config and batching.config for the stock tensorflow/serving image, as they fit an
export, and prints the command that serves it: to this machine only, without --host. Nothing is
overwritten.

  keras-luong serve-config saved_models/en_de/1 --out serving
  keras-luong serve-config saved_models/en_de/1 --out serving --host 0.0.0.0
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those of the command line, by default of this process.

    Returns:
        The exit status.
    """
    has_output = open_streams()
    try:
        with ending_at_sigterm():
            options = parser().parse_args(arguments)  # which imports TensorFlow for some paths
            return _status(options, has_output)
    except KeyboardInterrupt:
        say("keras-luong: stopped")
        return 130
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        say("keras-luong: stopped by SIGTERM")
        return TERMINATED
    finally:
        drop_unwritten()


def _status(options: argparse.Namespace, has_output: bool) -> int:
    try:
        if not has_output:
            raise OSError("Standard output is closed.")
        return _done(options)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and options.command == "translate":
            return 0  # whoever read has enough, as `head` has
        say(f"keras-luong {options.command}: error: {error}")
        return 2


def _done(options: argparse.Namespace) -> int:
    check(options)
    with without_import_notes():
        module = importlib.import_module(f"keras_luong_cli.{options.module}")
    status: int = getattr(module, options.function)(options)
    with naming_standard_output():
        sys.stdout.flush()
    return status


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    root = argparse.ArgumentParser(
        prog="keras-luong",
        description=_DESCRIPTION,
        epilog=_EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for name, short, text, add_to in (
        ("train", "learn to translate from two files", _TRAIN, _add_train),
        ("translate", "translate standard input or files", _TRANSLATE, _add_translate),
        ("evaluate", "compare translations with a file: BLEU, chrF", _EVALUATE, _add_evaluate),
        ("export", "write a SavedModel for TF Serving", _EXPORT, _add_export),
        ("check", "say whether TF Serving can run a SavedModel", _CHECK, _add_check),
        ("serve-config", "write TF Serving's files for it", _SERVE_CONFIG, _add_serve_config),
    ):
        one = commands.add_parser(
            name,
            help=short,
            description=text,
            epilog=_EXIT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module = "serve_config" if name == "serve-config" else "commands"
        one.set_defaults(module=module, function=name.replace("-", "_"))
        add_to(one)
    return root


class _Version(argparse.Action):
    # Looked up only if asked for: the metadata of a package takes longer to find than to print.
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(f"keras-luong {importlib.metadata.version('keras-luong')}")
        parser.exit()


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=path, help="sentences to read")
    parser.add_argument("target", type=path, help="their translations")
    parser.add_argument("--out", type=path, required=True, help="a new folder for the translator")
    parser.add_argument(
        "--valid", nargs=2, type=path, metavar=("SOURCE", "TARGET"), help="scored every epoch"
    )
    parser.add_argument("--work", type=path, help="checkpoints and logs (OUT.work)")
    size = parser.add_argument_group("the model")
    size.add_argument(
        "--vocabulary",
        type=positive,
        help="subwords (8000, or as many as the text allows where that is fewer)",
    )
    size.add_argument("--separate", action="store_true", help="a vocabulary for each language")
    size.add_argument("--units", type=positive, default=256, help="depth (%(default)s)")
    size.add_argument("--layers", type=positive, default=1, help="layers (%(default)s)")
    size.add_argument(
        "--cell", choices=("lstm", "gru", "layer_norm_lstm"), default="lstm", help="(%(default)s)"
    )
    size.add_argument("--dropout", type=fraction, default=0.3, help="(%(default)s)")
    size.add_argument(
        "--max-length", type=positive, default=100, help="subwords of a text (%(default)s)"
    )
    how = parser.add_argument_group("the training")
    how.add_argument("--epochs", type=positive, default=14, help="(%(default)s)")
    how.add_argument("--batch-size", type=positive, default=64, help="pairs (%(default)s)")
    how.add_argument("--seed", type=seed, default=1, help="(%(default)s)")


def _add_translate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translator", type=path, help="its folder")
    parser.add_argument("files", type=path, nargs="*", help="what to translate (standard input)")
    _add_search(parser)
    parser.add_argument(
        "--batch-size", type=positive, default=32, help="the most lines at once (%(default)s)"
    )
    parser.add_argument(
        "--scores", action="store_true", help="print the score and a tab before each translation"
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translator", type=path, help="its folder")
    parser.add_argument("source", type=path, help="sentences to translate")
    parser.add_argument("target", type=path, help="how they should be translated")
    _add_search(parser)
    parser.add_argument("--batch-size", type=positive, default=64, help="(%(default)s)")
    parser.add_argument("--tokenize", help="sacreBLEU's tokenizer for BLEU, such as zh (13a)")
    parser.add_argument("--out", type=path, help="a new file for the JSON too")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translator", type=path, help="its folder")
    parser.add_argument("path", type=path, help="a version, or the folder of a model's versions")
    _add_search(parser)
    parser.add_argument("--n-best", type=positive, help="of the signature n_best (the beam)")
    parser.add_argument("--sample", action="store_true", help="add the signature sample")
    parser.add_argument(
        "--scores", type=scores, metavar="FILE", help="JSON of evaluate, for the model's card"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("saved_model", type=path, help="the folder with saved_model.pb")
    releases = ("2.18", "2.19", "2.20")
    parser.add_argument("--release", choices=releases, help="of TF Serving (the newest of these)")
    parser.add_argument("--ops", action="store_true", help="list every op and who has it")
    parser.add_argument("--no-run", action="store_true", help="read it, and run nothing of it")


def _add_serve_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "saved_model", type=local_path, help="a version, such as saved_models/en_de/1"
    )
    parser.add_argument("--out", type=local_path, required=True, help="a folder for the two files")
    parser.add_argument("--name", help="of the model (the name of the folder of its versions)")
    parser.add_argument(
        "--host",
        type=address,
        default="127.0.0.1",
        help="the address to serve at; 0.0.0.0 is all of them (%(default)s)",
    )
    parser.add_argument(
        "--max-batch-size", type=positive, default=32, help="rows the server joins (%(default)s)"
    )
    parser.add_argument(
        "--timeout-micros",
        type=positive,
        default=5000,
        help="how long it waits for more of them (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=os.cpu_count() or 1,
        help="batches at once (%(default)s)",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--search", choices=("beam", "greedy"), default="beam", help="(%(default)s)"
    )
    parser.add_argument("--beam-width", type=positive, help="(5)")
    parser.add_argument("--length-penalty", type=not_negative, help="GNMT's alpha (0: none)")
