"""The paper's Table 4 on Multi30k: scores, windows and input feeding, each trained by the clock.

    python -m benchmarks.table4 --multi30k FOLDER [--minutes 15] [--only CELL ...] [--joey]

Each cell is a training of the same model with another attention, for as many minutes; see
`cells.py`. The model and what trains it are those of `examples/translate.py` with the options of B
in RESULTS.md, but for the learning rate: how many steps the time is good for differs from cell to
cell and nobody knows it before, so the rate follows the clock, up in the first 8 % of the time and
down to 0 by a cosine at its end. The clock counts the training steps alone: not validations, and
not the compiling of XLA (see `clock.py`). After every epoch the averaged weights are read on the
validation set.

Trainings stand in `$KERAS_LUONG_BENCH` or `~/.cache/keras_luong_bench`, under `table4`. A run that
was ended goes on there, its clock too; what is done is not done again. Remove a cell's folder to
train it anew. After each cell the table between the comments in docs/table4.md and the plot beside
it are written from all that is done.

`--joey` trains Joey NMT 2.3 on the same subwords for 3,000 updates, after which the headline
is read too (see `joey.py`).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import tables
from benchmarks.kept import ROOT
from benchmarks.peers import environments
from benchmarks.table4 import joey, report
from benchmarks.table4.cells import CELLS, UPDATES, Cell


def arguments() -> argparse.Namespace:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--multi30k", type=Path, required=True, help="folder of its text files")
    parser.add_argument("--minutes", type=float, default=15, help="of training (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="CELL", help=", ".join(names)
    )
    parser.add_argument("--joey", action="store_true", help="train Joey NMT, too")
    parser.add_argument(
        "--joey-updates", type=int, default=UPDATES, help="to see that it runs (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "table4.md", help="(%(default)s)"
    )
    return parser.parse_args()


def results(folder: Path) -> list[dict]:
    """What is done, in the order of the cells."""
    paths = [folder / cell.name / "result.json" for cell in CELLS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def train(cell: Cell, options: argparse.Namespace, folder: Path, tokenizer: Path) -> bool:
    """Whether it went well."""
    settings = {
        "cell": vars(cell),
        "data": str(options.multi30k.absolute()),
        "minutes": options.minutes,
        "folder": str(folder / cell.name),
        "tokenizer": str(tokenizer),
    }
    command = [sys.executable, "-m", "benchmarks.table4.train", json.dumps(settings)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait() == 0
    except KeyboardInterrupt:
        process.wait()  # it got the same Ctrl-C, and saves where it is
        raise


def joey_result(folder: Path, options: argparse.Namespace, tokenizer: Path) -> dict | None:
    """What Joey came to, if it was or is to be trained."""
    path = folder / "result.json"
    if options.joey and not path.exists():
        data = str(options.multi30k.absolute())
        found = joey.measure(data, folder, tokenizer, options.joey_updates)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write(done: list[dict], beside: dict | None, path: Path) -> None:
    if done:
        picture = path.with_suffix(".svg")
        report.plot(done, picture)
        text = report.table(done, beside)
        tables.write({"table4": f"{text}\n\n![Both over time]({picture.name})"}, path)


def main() -> None:
    options = arguments()
    root = environments.cache() / "table4"
    folder, tokenizer = root / f"{options.minutes:g}-minutes", root / "joint.tokenizer"
    root.mkdir(parents=True, exist_ok=True)
    beside_folder, failed = root / f"joey-{options.joey_updates}", []
    for cell in CELLS:
        if cell.name in options.only and not (folder / cell.name / "result.json").exists():
            print(f"\n## {cell.name}", file=sys.stderr, flush=True)
            if not train(cell, options, folder, tokenizer):
                failed.append(cell.name)
            write(results(folder), None, options.out)
    write(results(folder), joey_result(beside_folder, options, tokenizer), options.out)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from here.") from None
