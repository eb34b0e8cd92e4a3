"""The benchmark: trains and searches beside the peers, prints the tables, writes RESULTS.md's.

    python -m benchmarks.run [--full] [--only SECTION ...] [--multi30k FOLDER]

The first run makes the peers' environments (see `peers/environments.py`). What is compared runs in
interleaved rounds, in processes that stay alive; the machine's rate of matrix products is measured
in the same rounds. Run it on a machine that does nothing else: eager torch loses tenfold where
threads wait for a core.

Sections: `training`, a step of the common work (see `peers/training.py`); `search`, beam 5 and
greedy (`peers/forced.py`); `memory`, the peaks of both; `growth`, both as one size grows; and with
a folder of Multi30k's text files the real jobs: `epoch` (`peers/epoch.py`) and `translation`
(`peers/translation.py`), which needs models that `--full` trains once, for half an hour each.
`--full` has more points and rows, and `profile`, where the time of our searches goes.

Every result is kept as it comes in, under `$KERAS_LUONG_BENCH` or `~/.cache/keras_luong_bench`. A
run that was ended goes on where it was: what was measured with this code, these versions and
options is not measured again, unless `--fresh` says so. A table in RESULTS.md stands between two
comments that name its section; the run replaces what is between them and leaves the rest of the
file alone.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.kept import Kept
from benchmarks.peers import environments, epoch, forced, training, translation, work

RESULTS = Path(__file__).parent / "RESULTS.md"
SECTIONS = ("training", "search", "epoch", "translation", "memory", "growth", "profile")
# Sizes at which all of it runs in minutes, to see that it runs.
TINY = {
    "vocabulary": 100,
    "embedding": 16,
    "encoder_units": 8,
    "units": 16,
    "source_length": 6,
    "steps": 5,
}
# What grows, to these sizes; the one in the middle is the common work's. (The second of each with
# `--full` alone.)
GROWTH = {
    "source_length": (10, 100, 400),
    "batch": (1, 16, 256),
    "vocabulary": (2000, 32000, 64000),
    "units": (128, 256, 1024),
}
TINY_GROWTH = {"source_length": (3,), "batch": (1,), "vocabulary": (50,), "units": (8,)}
GROWTH_TRAINING = [training.LEADER, "tfa", "torch"]
GROWTH_SEARCH = [forced.OURS, "tfa", "torch"]
SMALL_VOCABULARY = 64  # what is left in memory is the state of the search


@dataclasses.dataclass(frozen=True)
class Job:
    """One set of interleaved rounds; its arguments are JSON."""

    section: str
    name: str
    run: Callable[..., Any]
    arguments: dict[str, Any]


def jobs(options: argparse.Namespace) -> list[Job]:
    """All of what is asked for, the most wanted first."""
    limits = {"rounds": 3 if options.tiny else 15, "seconds": 120}
    train, search = (_sizes(options, batch) for batch in (work.TRAINING_BATCH, work.BATCH))
    names = [*training.OURS, *training.PEERS]
    searching = [forced.OURS, *forced.PEERS]
    works = [*forced.SEARCHES, forced.ENCODER]
    found = [
        Job("training", "training", training.measure, {"names": names, "sizes": train, **limits}),
        Job(
            "search",
            "search",
            forced.measure,
            {"names": searching, "searches": forced.SEARCHES, "sizes": search, **limits},
        ),
        *_real_jobs(options, limits),
        Job("memory", "training memory", training.memory, {"names": names[:-1], "sizes": train}),
    ]
    for vocabulary in (search["vocabulary"], SMALL_VOCABULARY):
        arguments = {"names": searching[:-1], "works": works}
        arguments["sizes"] = {**search, "vocabulary": vocabulary}
        found.append(Job("memory", f"search memory, {vocabulary}", forced.memory, arguments))
    for factor, values in _growth(options).items():
        for value in values:
            found += _grown(factor, value, train, search, limits)
    if options.full:
        found.append(Job("profile", "profile", forced.profile, {"sizes": search}))
    return found


def _sizes(options: argparse.Namespace, batch: int) -> dict[str, int]:
    if options.tiny:
        return {"batch": 4, **TINY}
    return {
        "batch": batch,
        "vocabulary": work.VOCABULARY,
        "embedding": work.EMBEDDING,
        "encoder_units": work.ENCODER_UNITS,
        "units": work.UNITS,
        "source_length": work.SOURCE_LENGTH,
        "steps": work.STEPS,
    }


def _growth(options: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    if options.tiny:
        return TINY_GROWTH
    return GROWTH if options.full else {name: (v[0], v[-1]) for name, v in GROWTH.items()}


def _grown(factor: str, value: int, train: dict, search: dict, limits: dict) -> list[Job]:
    changes = {factor: value}
    if factor == "units":  # half of them each way, as everywhere
        changes["encoder_units"] = value // 2
    limits = {"rounds": min(limits["rounds"], 7), "seconds": 40}
    return [
        Job(
            "growth",
            f"training, {factor} {value}",
            training.measure,
            {"names": GROWTH_TRAINING, "sizes": {**train, **changes}, **limits},
        ),
        Job(
            "growth",
            f"search, {factor} {value}",
            forced.measure,
            {
                "names": GROWTH_SEARCH,
                "searches": ["beam"],
                "sizes": {**search, **changes},
                **limits,
            },
        ),
    ]


def _real_jobs(options: argparse.Namespace, limits: dict) -> list[Job]:
    if not options.multi30k:
        return []
    arguments: dict[str, Any] = {"data": str(options.multi30k.absolute())}
    if options.tiny:
        sizes = {"units": 16, "vocabulary": 300, "chunks": 3, "joey_updates": 2}
        return [Job("epoch", "epoch", epoch.measure, {**arguments, **sizes})]
    sizes = {"units": 512, "vocabulary": 8000, "chunks": 15, "joey_updates": 6}
    found = [Job("epoch", "epoch", epoch.measure, {**arguments, **sizes})]
    if options.full or translation.is_trained():
        arguments |= {"rounds": 3, "seconds": limits["seconds"]}
        found.append(Job("translation", "translation", translation.measure, arguments))
    return found


def run(
    found: list[Job], kept: Kept, *, only: Sequence[str], fresh: bool
) -> tuple[dict[str, dict], list[str]]:
    """Results by the job's name, and the names of those that failed.

    Of sections that are not asked for what is kept is read and nothing measured.
    """
    results, failed = {}, []
    for number, job in enumerate(found, 1):
        is_asked = job.section in only
        result = None if fresh and is_asked else kept.find(job.name, job.arguments)
        if result is None and is_asked:
            print(f"[{number}/{len(found)}] {job.name}", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                measured = job.run(**job.arguments)
            except SystemExit as error:  # a worker that ended, or a peer that does other work
                print(f"{job.name}: {error}", file=sys.stderr, flush=True)
                failed.append(job.name)
                continue
            result = kept.add(job.name, job.arguments, measured, time.monotonic() - start)
        if result is not None:
            results[job.name] = result
    return results, failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="more points and rows; resumable")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument("--multi30k", type=Path, help="folder of Multi30k's text files")
    parser.add_argument("--fresh", action="store_true", help="measure anew what is kept, too")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; writes no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="(%(default)s)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        # Tiny results prove nothing tomorrow.
        kept = Kept((Path(folder) if options.tiny else environments.cache()) / "results.jsonl")
        results, failed = run(jobs(options), kept, only=options.only, fresh=options.fresh)
    blocks = tables.blocks(results)
    for name, text in blocks.items():
        print(f"\n## {name}\n\n{text}")
    if not options.tiny:
        tables.write(blocks, options.out)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
