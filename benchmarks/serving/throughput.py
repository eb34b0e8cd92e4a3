"""Many clients on one loaded model: sentences a second and latencies in TF Serving's C++ loader.

    KERAS_BACKEND=tensorflow python benchmarks/serving/throughput.py MULTI30K [--translator FOLDER]

MULTI30K holds `test_2016_flickr.en`, plain or `.gz`; the translator is what `Translator.save` wrote,
by default the one that `benchmarks/peers/translation.py` trained. It is exported with a beam of 5
and with greedy search, and loaded by a C++ program without Python. Threads of the program share the
session; each has one request under way and sends the next when it has the reply, as clients of a
server do. A request holds one sentence, or `--batch-size` of them, which a client put together in
the order that they came in. The program keeps TensorFlow's own thread pools as the server does, of
one thread a core.

Peers, if their environment can be made (see `benchmarks/peers/environments.py`):
- tfa, with our weights: its greedy search is served; its beam search cannot be (the table says why);
- a tutorial's model of the same sizes (`tutorial.py`), greedy, with random weights, writing as many
  tokens as ours does.
Peers get ids, which somebody must have made; ours gets texts and answers with texts, subwords,
scores and attention. `--no-peers` leaves them out.

The first tenth of the requests warms up and is not counted.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_luong import Translator
from keras_luong.serving import cpp_loader

PEERS = Path(__file__).parents[1] / "peers"
sys.path.append(str(PEERS))

BEAM_WIDTH = 5
WARM_UP = 0.1


class Served(NamedTuple):
    """What is loaded, and what it is sent: a row a sentence for each input."""

    model_dir: Path
    columns: dict[str, list]

    def requests(self, size: int) -> list[dict[str, list]]:
        count = len(next(iter(self.columns.values())))
        return [
            {name: padded(rows[start : start + size]) for name, rows in self.columns.items()}
            for start in range(0, count, size)
        ]


def padded(rows: list) -> list:
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
    parser.add_argument("--sentences", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="sentences (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--rounds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    options = parser.parse_args()
    if options.translator is None:
        import environments

        options.translator = environments.cache() / "multi30k" / "translator"
    return options


def sentences(data: Path, count: int) -> list[str]:
    plain = data / "test_2016_flickr.en"
    packed = plain.with_suffix(".en.gz")
    opened = gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else plain.open()
    with opened as file:
        found = [line.rstrip("\n") for line in file]
    return [found[index % len(found)] for index in range(count)]


def export_ours(translator: Translator, folder: Path, texts: list[str]) -> dict[str, Served]:
    served = {}
    for name, search in ((f"beam {BEAM_WIDTH}", "beam"), ("greedy", "greedy")):
        model_dir = folder / search / "1"
        translator.export(model_dir, translator_search(search))
        served[f"ours, {name}"] = Served(model_dir, {"text": texts})
    return served


def translator_search(name: str) -> Any:
    from keras_luong import BeamSearch, GreedySearch

    return BeamSearch(BEAM_WIDTH) if name == "beam" else GreedySearch()


def export_tfa(translator: Translator, folder: Path, ids: list[list[int]]) -> dict[str, Served]:
    import environments
    from translation_ours import save_weights, sizes_of

    weights = folder / "weights.npz"
    save_weights(translator.model, str(weights))
    sizes = {**sizes_of(translator.model), "steps": translator.max_length + 1}
    script = str(Path(__file__).with_name("export_tfa.py"))
    subprocess.run(
        [environments.interpreter("tfa"), script, str(weights), str(folder)],
        env={"WORK_SIZES": json.dumps(sizes), "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        stdout=sys.stderr,
    )
    return {
        f"tfa, {name}, ids": Served(folder / name, {"source_ids": ids})
        for name in ("greedy", "beam")
    }


def export_tutorials(
    translator: Translator, folder: Path, ids: list[list[int]], lengths: list[int]
) -> dict[str, Served]:
    import tutorial

    tokenizer, units = translator.source_tokenizer, translator.model.decoder.cell.units
    model = tutorial.build(tokenizer.vocabulary_size, units)
    print(f"The tutorial's model has {model.count_params():,} weights.")
    columns = {"source_ids": ids, "length": lengths}
    served = {}
    for name, save in (
        ("tf.saved_model.save", tutorial.save_as_module),
        ("ExportArchive", tutorial.export),
    ):
        save(model, folder / name)
        served[f"tutorial, {name}, ids"] = Served(folder / name, columns)
    return served


def source_ids(translator: Translator, texts: list[str]) -> list[list[int]]:
    from keras_luong.ids import END_ID

    return [[*row, END_ID] for row in translator.source_tokenizer.tokenize(texts).to_list()]


def obstacles(runner: Path, served: dict[str, Served]) -> dict[str, str]:
    """What cannot be served, and the loader's words for it."""
    found = {}
    for name, one in served.items():
        try:
            cpp_loader.run(runner, one.model_dir, one.requests(1)[:1])
        except cpp_loader.RunnerError as error:
            found[name] = said(error)
    return found


def said(error: Exception) -> str:
    """The line of an error that says it."""
    marks = ("FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT", "not registered")
    lines = [line for line in str(error).splitlines() if any(mark in line for mark in marks)]
    return (lines or str(error).splitlines())[-1][:200]


def measure(
    runner: Path, one: Served, size: int, threads: int
) -> tuple[float, list[float]]:
    """Sentences a second, and milliseconds of each request."""
    requests = one.requests(size)
    measured = cpp_loader.measure(
        runner, one.model_dir, requests, threads=threads, timeout=3600
    )
    first = max(1, round(WARM_UP * len(requests)))
    counted = measured[first:]
    rows = sum(len(next(iter(request.values()))) for request in requests[first:])
    start = min(request["began"] for request in counted)
    end = max(request["began"] + request["seconds"] for request in counted)
    return rows / (end - start), [1000 * request["seconds"] for request in counted]


def print_table(
    runner: Path, served: dict[str, Served], options: argparse.Namespace
) -> None:
    sizes = sorted({1, options.batch_size})
    keys = [
        (name, size, threads) for name in served for size in sizes for threads in options.threads
    ]
    rates: dict[Any, list[float]] = {key: [] for key in keys}
    latencies: dict[Any, list[float]] = {key: [] for key in keys}
    for _ in range(options.rounds):
        for name, size, threads in keys:
            rate, took = measure(runner, served[name], size, threads)
            rates[name, size, threads].append(rate)
            latencies[name, size, threads] += took
    print("\n| | sentences a request | threads | sentences a second | p50, ms | p99, ms |")
    print("|---|---|---|---|---|---|")
    for key in keys:
        name, size, threads = key
        p50, p99 = np.percentile(latencies[key], [50, 99])
        rate = statistics.median(rates[key])
        print(f"| {name} | {size} | {threads} | {rate:.1f} | {p50:.1f} | {p99:.1f} |")


def tokens(runner: Path, one: Served, size: int) -> list[int]:
    """How many tokens ours writes for each sentence."""
    replies = cpp_loader.run(runner, one.model_dir, one.requests(size), timeout=3600)
    return [int(length) for reply in replies for length in reply["target_length"]]


def same_translations(
    runner: Path, ours: Served, tfa: Served, translator: Translator, size: int
) -> int:
    """How many sentences tfa writes as ours does."""
    texts: list[bytes] = []
    for reply in cpp_loader.run(runner, tfa.model_dir, tfa.requests(size), timeout=3600):
        texts += translator.target_tokenizer.detokenize(reply["target_ids"]).numpy().tolist()
    written: list[bytes] = []
    for reply in cpp_loader.run(runner, ours.model_dir, ours.requests(size), timeout=3600):
        written += reply["translation"].tolist()
    return sum(one == other for one, other in zip(texts, written, strict=True))


def main() -> None:
    options = arguments()
    if reason := cpp_loader.obstacle():
        raise SystemExit(reason)
    translator = Translator.load(options.translator)
    texts = sentences(options.data, options.sentences)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runner = cpp_loader.build(folder)
        served = export_ours(translator, folder, texts)
        print(f"Ours has {translator.model.count_params():,} weights.")
        if not options.no_peers:
            ids = source_ids(translator, texts)
            lengths = tokens(runner, served["ours, greedy"], options.batch_size)
            print(f"Greedy, ours writes {sum(lengths):,} tokens of {len(texts):,} sentences.")
            served |= export_tfa(translator, folder, ids)
            served |= export_tutorials(translator, folder, ids, lengths)
        refused = obstacles(runner, served)
        for name, error in refused.items():
            print(f"{name} cannot be served: {error}")
        served = {name: one for name, one in served.items() if name not in refused}
        if "tfa, greedy, ids" in served:
            same = same_translations(
                runner, served["ours, greedy"], served["tfa, greedy, ids"], translator, 16
            )
            print(f"tfa writes {same:,} of our {len(texts):,} greedy translations.")
        print_table(runner, served, options)


if __name__ == "__main__":
    main()
