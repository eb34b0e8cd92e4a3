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
was ended goes on there, its clock too. What a cell came to is a line of docs/table4.jsonl, and is
not measured again as long as it stands there. After each cell the table between the comments in
docs/table4.md and the plot beside it are written from those lines. `--out` names another page, with
lines of its own.

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
from benchmarks.table4.record import Record


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


def trained(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def write(record: Record, options: argparse.Namespace) -> None:
    done = record.cells(options.minutes)
    if done:
        picture = options.out.with_suffix(".svg")
        report.plot(done, picture)
        text = report.table(done, record.joey(options.joey_updates))
        tables.write({"table4": f"{text}\n\n![Both over time]({picture.name})"}, options.out)


def main() -> None:
    options = arguments()
    root = environments.cache() / "table4"
    folder, tokenizer = root / f"{options.minutes:g}-minutes", root / "joint.tokenizer"
    root.mkdir(parents=True, exist_ok=True)
    record, failed = Record(options.out.with_suffix(".jsonl")), []
    for cell in CELLS:
        if cell.name in options.only and not record.cell(cell, options.minutes):
            print(f"\n## {cell.name}", file=sys.stderr, flush=True)
            if train(cell, options, folder, tokenizer):
                record.add(trained(folder / cell.name))
            else:
                failed.append(cell.name)
            write(record, options)
    if options.joey and not record.joey(options.joey_updates):
        data, beside = str(options.multi30k.absolute()), root / f"joey-{options.joey_updates}"
        record.add(joey.measure(data, beside, tokenizer, options.joey_updates))
    write(record, options)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from here.") from None
