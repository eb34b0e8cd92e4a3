"""A real job: all sentences of Multi30k's test set, ours beside tfa and Joey NMT 2.3, beam 5.

    KERAS_BACKEND=tensorflow python benchmarks/peers/translation.py MULTI30K \
        [--translator FOLDER | --work FOLDER] [--rounds 3]

MULTI30K holds `train`, `val` and `test_2016_flickr`, each with `.en` and `.de`, plain or `.gz`.

Ours is a `Translator` that `Translator.save` wrote into `--translator`. Without one the run trains
it: by the schedule of `examples/translate.py`, whose work folder `--work` may be (what was trained
there is taken over; `--epochs` and `--dropout` must then be those of that training). Joey gets the
same joint vocabulary and sizes (`joey_config.py` says what stays different) and trains by the clock
for `--joey-minutes`. Both trainings happen once: models, text files and Joey's environment stand
outside the tree (see `environments.py`), under `multi30k`. `--train-only` ends there.

tfa's `BeamSearchDecoder` gets our trained weights, and ids instead of texts, in batches of similar
length that were padded before: its time is the search alone.

Then all translate the whole test set, texts in, texts out, in interleaved rounds, in processes
that stay alive. Their translations have lengths of their own: what is compared is milliseconds an
output token, the end token included, the lengths beside it. Ours sorts sentences by length by
itself; Joey's `predict` takes them as they come, and a second row hands it the sentences sorted.
Neither has a length penalty unless `--alpha` (GNMT's, for both) says so.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import environments
import sacrebleu
import work
from joey_config import joey_config
from worker import Worker

HERE = Path(__file__).parent
WARM_UP = 64  # sentences
SEED = 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="MULTI30K", help="folder of the text files")
    parser.add_argument("--translator", type=Path, help="what Translator.save wrote")
    parser.add_argument("--work", type=Path, help="work folder of a training of ours")
    parser.add_argument("--epochs", type=int, default=18, help="of ours (%(default)s)")
    parser.add_argument("--dropout", type=float, default=0.3, help="(%(default)s)")
    parser.add_argument("--joey-minutes", type=float, default=30, help="(%(default)s)")
    parser.add_argument("--train-only", action="store_true", help="train what is missing, and end")
    parser.add_argument("--beam-width", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="sentences (%(default)s)")
    parser.add_argument("--alpha", type=float, default=0.0, help="GNMT's penalty (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    options.folder = environments.cache() / "multi30k"
    if options.translator is None:
        options.translator = options.folder / "translator"
    return options


def files(data: Path, name: str) -> list[Path]:
    """The English and the German file of a part of the data."""
    found = []
    for language in ("en", "de"):
        plain = data / f"{name}.{language}"
        packed = data / f"{name}.{language}.gz"
        if not (plain.exists() or packed.exists()):
            raise SystemExit(f"Neither {plain} nor {packed} exists.")
        found.append(plain if plain.exists() else packed)
    return found


def train_ours(options: argparse.Namespace) -> None:
    if options.translator.exists():
        return
    options.translator.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "train": [str(path) for path in files(options.data, "train")],
        "valid": [str(path) for path in files(options.data, "val")],
        "work": str(options.work or options.folder / "work"),
        "out": str(options.translator),
        "vocabulary": 6000,
        "units": 256,
        "layers": 1,
        "dropout": options.dropout,
        "max_length": 80,
        "epochs": options.epochs,
        "seed": SEED,
    }
    script = str(HERE / "translation_ours.py")
    _run([sys.executable, script, "train", json.dumps(settings)])


def joey_files(options: argparse.Namespace, ours: Worker, described: dict) -> Path:
    """Writes what Joey reads; returns its configuration."""
    from keras_luong import read_pairs

    folder = options.folder / "joey"
    folder.mkdir(parents=True, exist_ok=True)
    for name, theirs in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
        pairs = read_pairs(*files(options.data, name))
        for side, suffix in enumerate(("source", "target")):
            lines = [_one_line(pair[side]) for pair in pairs]
            (folder / f"{theirs}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pieces = ours.ask("save_vocabulary", path=str(folder / "joint.model"))
    (folder / "joint.vocabulary").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = joey_config(
        folder,
        units=described["units"],
        layers=described["layers"],
        max_length=described["max_length"],
        dropout=options.dropout,
        seed=SEED,
    )
    path = folder / "config.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def train_joey(options: argparse.Namespace, config: Path) -> None:
    if list(config.parent.glob("model/*.ckpt")):
        return
    seconds = str(round(60 * options.joey_minutes))
    script = str(HERE / "translation_joey.py")
    _run([environments.interpreter("joey"), script, "train", str(config), seconds])


def start_tfa(options: argparse.Namespace, ours: Worker, folder: Path, max_length: int) -> Worker:
    """Tfa with our weights, which translates into at most that many tokens."""
    weights = str(folder / "weights.npz")
    sizes = {**ours.ask("save_weights", path=weights), "steps": max_length + 1}
    if options.beam_width != work.BEAM_WIDTH or options.alpha:
        raise SystemExit(f"tfa runs with a beam of {work.BEAM_WIDTH} and no length penalty.")
    script = str(HERE / "translation_tfa.py")
    python = environments.interpreter("tfa")
    return Worker(python, script, weights, WORK_SIZES=json.dumps(sizes))


class Ordered:
    """tfa's end: sorts and pads ids, and puts what comes back into the order of the sentences."""

    def __init__(self, tfa: Worker, ours: Worker, sources: list[str], batch_size: int) -> None:
        self.tfa, self.ours = tfa, ours
        ids = ours.ask("source_ids", texts=sources)
        self.order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        ordered = [ids[index] for index in self.order]
        groups = [ordered[start : start + batch_size] for start in range(0, len(ids), batch_size)]
        self.batches = [_padded(group) for group in groups]

    def translate(self, batches: int | None = None) -> dict:
        found = self.tfa.ask("translate", batches=self.batches[:batches])
        rows = dict(zip(self.order, found["ids"], strict=False))
        ids = [rows[index] for index in sorted(rows)]
        lengths = [len(row) for row in ids]
        return {
            "seconds": found["seconds"],
            "lengths": lengths,
            "texts": self.ours.ask("texts_of", ids=ids),
        }


def _padded(rows: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [work.PADDING_ID] * (longest - len(row)) for row in rows]


def measure(
    options: argparse.Namespace,
    ours: Worker,
    joey: Worker,
    tfa: Ordered,
    sources: list[str],
    max_length: int,
) -> dict[str, list[dict]]:
    """What each said of every round."""
    same = {"beam_width": options.beam_width, "batch_size": options.batch_size}
    same["alpha"] = options.alpha
    as_given = list(range(len(sources)))
    by_length = sorted(as_given, key=lambda index: len(sources[index]))

    def ask_joey(order: list[int]) -> dict:
        return joey.ask("translate", order=order, max_length=max_length + 1, **same)

    ours.ask("translate", texts=sources[:WARM_UP], **same)
    ask_joey(as_given[:WARM_UP])
    tfa.translate(1)
    results: dict[str, list[dict]] = {"ours": [], "tfa": [], "Joey": [], "Joey, sorted": []}
    for _ in range(options.rounds):
        results["ours"].append(ours.ask("translate", texts=sources, **same))
        results["tfa"].append(tfa.translate())
        results["Joey"].append(ask_joey(as_given))
        results["Joey, sorted"].append(ask_joey(by_length))
    return results


def print_table(results: dict[str, list[dict]], targets: list[str]) -> None:
    seconds = {
        name: statistics.median(one["seconds"] for one in rounds)
        for name, rounds in results.items()
    }
    tokens = {name: sum(rounds[0]["lengths"]) for name, rounds in results.items()}
    a_token = {name: 1000 * seconds[name] / tokens[name] for name in results}
    print("\n| | ours / this, a token | ms a token | seconds | output tokens | BLEU |")
    print("|---|---|---|---|---|---|")
    for name, rounds in results.items():
        metric = sacrebleu.BLEU()
        score = metric.corpus_score(rounds[0]["texts"], [targets]).score
        print(
            f"| {name} | {a_token['ours'] / a_token[name]:.2f} | {a_token[name]:.3f} "
            f"| {seconds[name]:.1f} | {tokens[name]:,} | {score:.2f} |"
        )
    print(f"\nsacreBLEU: {metric.get_signature()}")


def _one_line(text: str) -> str:
    """Joey splits its files at everything that Python counts as the end of a line."""
    return " ".join(text.split())


def _run(command: list[str]) -> None:
    # What a training prints goes to the error stream: the output is the table.
    subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> None:
    options = arguments()
    train_ours(options)
    script = str(HERE / "translation_ours.py")
    with Worker(sys.executable, script, "serve", str(options.translator)) as ours:
        described = ours.ask("describe")
        config = joey_files(options, ours, described)
        train_joey(options, config)
        if options.train_only:
            return
        script = str(HERE / "translation_joey.py")
        with Worker(environments.interpreter("joey"), script, "serve", str(config)) as joey:
            folder, max_length = config.parent, described["max_length"]
            sources, targets = (
                (folder / f"test.{suffix}").read_text(encoding="utf-8").splitlines()
                for suffix in ("source", "target")
            )
            with start_tfa(options, ours, folder, max_length) as worker:
                tfa = Ordered(worker, ours, sources, options.batch_size)
                peers = {"ours": described, "tfa": worker.ask("describe")}
                for name, one in {**peers, "Joey": joey.ask("describe")}.items():
                    print(f"{name}: {one['versions']}, {one['parameters']:,} weights")
                results = measure(options, ours, joey, tfa, sources, max_length)
                print_table(results, targets)
                texts = zip(results["ours"][0]["texts"], results["tfa"][0]["texts"], strict=True)
                print(f"tfa writes {sum(one == other for one, other in texts)} of our translations")


if __name__ == "__main__":
    main()
