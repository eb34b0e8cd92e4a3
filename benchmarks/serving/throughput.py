"""Many clients on one loaded model: sentences a second and latencies in TF Serving's C++ loader.

    KERAS_BACKEND=tensorflow python benchmarks/serving/throughput.py MULTI30K [--translator FOLDER]

MULTI30K holds `test_2016_flickr` with `.en` and `.de`, plain or `.gz`; the translator is what
`Translator.save` wrote, by default the one that `benchmarks/peers/translation.py` trained. It is
exported with a beam of 5 and with greedy search, and loaded by a C++ program without Python.
Threads of the program share the session: each sends its next request when it has the reply to the
last one, as a client of a server does. A request holds one sentence, or `--batch-size` of them,
which the client put together in the order that they came in. TensorFlow's own pools have a thread a
core, as in the server.

Peers, from ids to ids (tfa's environment is made where it is missing):
- tfa's beam and greedy search with our weights;
- a tutorial's model of the same sizes (`tutorial.py`), greedy, with random weights, which writes as
  many tokens as ours does; saved in two ways.
What the loader cannot run is named, with the loader's words. `--no-peers` leaves them out.

A run is a process of its own. What begins before its first requests have ended, a tenth of them and
at least one a thread, warms it up and is not counted. Rates are medians of the rounds, in which all
take turns; percentiles are of the requests of all rounds.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_luong import BeamSearch, GreedySearch, Translator, read_pairs
from keras_luong.ids import END_ID
from keras_luong.serving import cpp_loader

sys.path.append(str(Path(__file__).parents[1] / "peers"))

import environments  # noqa: E402 - found there
import tutorial  # noqa: E402 - beside this file

BEAM = BeamSearch(5)
WARM_UP = 0.1
BATCHED = 4  # times as many sentences where they come in batches
# In what the program prints, what says why a model is not served.
TELLING = ("FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT", "not registered")


class Served(NamedTuple):
    """A model to load, and what it is sent: for each input a value a sentence."""

    model_dir: Path
    columns: dict[str, list]
    signature: str = "serving_default"

    def requests(self, size: int) -> list[dict[str, list]]:
        """Sentences in groups of a size; ids are padded to the longest of their group."""
        count = len(next(iter(self.columns.values())))
        return [
            {name: _padded(rows[start : start + size]) for name, rows in self.columns.items()}
            for start in range(0, count, size)
        ]

    def replies(self, runner: Path, size: int) -> list[dict[str, np.ndarray]]:
        requests = self.requests(size)
        return cpp_loader.run(runner, self.model_dir, requests, self.signature, timeout=3600)


def _padded(rows: list) -> list:
    if not isinstance(rows[0], list):
        return rows
    longest = max(map(len, rows))
    return [row + [0] * (longest - len(row)) for row in rows]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="MULTI30K", help="folder of the text files")
    parser.add_argument("--translator", type=Path, help="what Translator.save wrote")
    parser.add_argument(
        "--sentences",
        type=int,
        default=500,
        help="of a run with one a request; four times as many in batches (%(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="sentences (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    options = parser.parse_args()
    if options.translator is None:
        options.translator = environments.cache() / "multi30k" / "translator"
    return options


def sentences(data: Path, count: int) -> list[str]:
    """As many sentences of the test set; beyond its end it begins anew."""
    plain = [data / f"test_2016_flickr.{language}" for language in ("en", "de")]
    pairs = read_pairs(*(path if path.exists() else f"{path}.gz" for path in plain))
    found = [source for source, _ in pairs]
    return [found[index % len(found)] for index in range(count)]


def export_ours(
    translator: Translator, folder: Path, texts: list[str], ids: list[list[int]]
) -> dict[str, Served]:
    beam, greedy = folder / "beam" / "1", folder / "greedy" / "1"
    translator.export(beam, BEAM)
    translator.export(greedy, GreedySearch())
    return {
        "ours, beam 5": Served(beam, {"text": texts}),
        "ours, greedy": Served(greedy, {"text": texts}),
        "ours, greedy, ids": Served(greedy, {"source_ids": ids}, "ids"),
    }


def export_tfa(
    options: argparse.Namespace, folder: Path, ids: list[list[int]]
) -> dict[str, Served]:
    from translation_ours import Translation

    weights = folder / "weights.npz"
    ours = Translation(str(options.translator))
    sizes = {**ours.save_weights(str(weights)), "steps": ours.translator.max_length + 1}
    script = str(Path(__file__).with_name("export_tfa.py"))
    _run(environments.interpreter("tfa"), script, str(weights), str(folder / "tfa"), sizes)
    return {
        f"tfa, {name}, ids": Served(folder / "tfa" / name, {"source_ids": ids})
        for name in ("beam", "greedy")
    }


def _run(python: str, script: str, weights: str, folder: str, sizes: dict[str, int]) -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**kept, **quiet, "WORK_SIZES": json.dumps(sizes)}
    subprocess.run(
        [python, script, weights, folder], env=environment, check=True, stdout=sys.stderr
    )


def export_tutorials(
    translator: Translator, folder: Path, ids: list[list[int]], lengths: list[int]
) -> dict[str, Served]:
    units = translator.model.decoder.cell.units
    model = tutorial.build(translator.source_tokenizer.vocabulary_size, units)
    print(f"The tutorial's model has {model.count_params():,} weights.")
    columns = {"source_ids": ids, "length": lengths}
    saves = {"tf.saved_model.save": tutorial.save_as_module, "ExportArchive": tutorial.export}
    for name, save in saves.items():
        save(model, folder / name)
    return {f"tutorial, greedy, ids, {name}": Served(folder / name, columns) for name in saves}


def refusal(runner: Path, served: Served) -> str | None:
    """Why the loader does not run a model, in its words, or None."""
    try:
        served._replace(columns={name: rows[:1] for name, rows in served.columns.items()}).replies(
            runner, 1
        )
    except cpp_loader.RunnerError as error:
        lines = str(error).splitlines()
        telling = [line for line in lines if any(mark in line for mark in TELLING)]
        return (telling or lines)[-1][:300]
    return None


def measure(
    runner: Path, served: Served, sentences: int, size: int, threads: int
) -> tuple[float, list[float]]:
    """Sentences a second, and the milliseconds of each request."""
    requests = served.requests(size)[: -(-sentences // size)]
    measured = cpp_loader.measure(
        runner, served.model_dir, requests, served.signature, threads=threads, timeout=3600
    )
    first = max(threads, round(WARM_UP * len(requests)))
    warm = max(one["began"] + one["seconds"] for one in measured[:first])
    counted = [place for place, one in enumerate(measured) if one["began"] >= warm]
    if not counted:
        raise SystemExit(f"{len(requests)} requests are too few for {threads} threads.")
    rows = sum(len(next(iter(requests[place].values()))) for place in counted)
    seconds = [measured[place]["seconds"] for place in counted]
    end = max(measured[place]["began"] + measured[place]["seconds"] for place in counted)
    return rows / (end - warm), [1000 * one for one in seconds]


def print_table(runner: Path, models: dict[str, Served], options: argparse.Namespace) -> None:
    batches = {1: options.sentences, options.batch_size: BATCHED * options.sentences}
    rates: dict[tuple, list[float]] = {}
    took: dict[tuple, list[float]] = {}
    for _ in range(options.rounds):
        for name, size, threads in itertools.product(models, batches, options.threads):
            key = name, size, threads
            rate, milliseconds = measure(runner, models[name], batches[size], size, threads)
            rates.setdefault(key, []).append(rate)
            took.setdefault(key, []).extend(milliseconds)
    print("\n| | sentences a request | threads | sentences a second | p50, ms | p99, ms |")
    print("|---|---|---|---|---|---|")
    for key, values in rates.items():
        name, size, threads = key
        p50, p99 = np.percentile(took[key], [50, 99])
        rate = statistics.median(values)
        print(f"| {name} | {size} | {threads} | {rate:.0f} | {p50:.1f} | {p99:.1f} |")


def print_agreement(
    runner: Path, models: dict[str, Served], translator: Translator, size: int
) -> None:
    """How many sentences tfa, with our weights, writes as ours does."""

    def text_of(ids: np.ndarray) -> np.ndarray:
        # tfa's greedy search goes on behind the end, while others of the batch have not ended.
        is_over = np.cumsum(ids == END_ID, axis=1) > 0
        return translator.target_tokenizer.detokenize(np.where(is_over, END_ID, ids)).numpy()

    texts = [
        [text for reply in models[name].replies(runner, size) for text in read(reply)]
        for name, read in (
            ("ours, greedy", lambda reply: reply["translation"]),
            ("tfa, greedy, ids", lambda reply: text_of(reply["target_ids"])),
        )
    ]
    same = sum(one == other for one, other in zip(*texts, strict=True))
    print(f"tfa writes {same:,} of our {len(texts[0]):,} greedy translations.")


def main() -> None:
    options = arguments()
    if reason := cpp_loader.obstacle():
        raise SystemExit(reason)
    translator = Translator.load(options.translator, compile=False)
    print(f"Ours has {translator.model.count_params():,} weights.")
    texts = sentences(options.data, BATCHED * options.sentences)
    ids = [[*row, END_ID] for row in translator.source_tokenizer.tokenize(texts).to_list()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runner = cpp_loader.build(folder)
        models = export_ours(translator, folder, texts, ids)
        if not options.no_peers:
            replies = models["ours, greedy"].replies(runner, options.batch_size)
            lengths = [int(length) for reply in replies for length in reply["target_length"]]
            models |= export_tfa(options, folder, ids)
            models |= export_tutorials(translator, folder, ids, lengths)
        refused = {name: refusal(runner, served) for name, served in models.items()}
        for name, why in refused.items():
            if why:
                del models[name]
                print(f"{name} cannot be served: {why}")
        if not options.no_peers:
            print_agreement(runner, models, translator, options.batch_size)
        print_table(runner, models, options)


if __name__ == "__main__":
    main()
