"""A real job: all sentences of Multi30k's test set, ours beside tfa and Joey NMT 2.3, beam 5.

Ours is a `Translator` with 6,000 joint subwords and 256 units, trained by the schedule of
`examples/translate.py`. Joey gets the same joint vocabulary and sizes (`joey_config.py` says what
stays different) and trains by the clock. Both trainings happen once: models and text files stand
outside the tree (see `environments.py`), under `multi30k`.

tfa's `BeamSearchDecoder` gets our trained weights, and ids instead of texts, in batches of similar
length that were padded before: its time is the search alone.

All translate the whole test set, texts in, texts out, in interleaved rounds, in processes that stay
alive. Their translations have lengths of their own: what is compared is milliseconds an output
token, the end token included, the lengths beside it. Ours sorts sentences by length by itself;
Joey's `predict` takes them as they come, and a second row hands it the sentences sorted. Neither
has a length penalty.
"""

import contextlib
import functools
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import environments, multi30k, work
from benchmarks.peers.floor import Sizes, forward_flops
from benchmarks.peers.rounds import HERE, PRODUCTS, interleaved, start_ours, start_peer
from benchmarks.peers.worker import Worker

WARM_UP = 64  # sentences
EPOCHS = 18
TFA = "tfa, the search alone"
JOEY_MINUTES = 30


def _translator() -> Path:
    return multi30k.folder() / "translator"


def _joey() -> Path:
    return multi30k.folder() / "joey"


def is_trained() -> bool:
    return _translator().exists() and any(_joey().glob("model/*.ckpt"))


def train(data: str) -> None:
    """Trains what is missing, about half an hour each."""
    if not _translator().exists():
        settings = multi30k.training_settings(
            data, multi30k.folder() / "work", units=256, vocabulary=6000, epochs=EPOCHS
        )
        settings["out"] = str(_translator())
        _run([sys.executable, str(HERE / "translation_ours.py"), "train", json.dumps(settings)])
    with start_ours("translation_ours.py", "serve", str(_translator())) as ours:
        described = ours.ask("describe")
        sizes = {name: described[name] for name in ("units", "layers")}
        config = multi30k.write_joey_files(data, _joey(), ours, **sizes)
    if not is_trained():
        seconds = str(60 * JOEY_MINUTES)
        script = str(HERE / "translation_joey.py")
        _run([environments.interpreter("joey"), script, "train", str(config), seconds])


def measure(data: str, rounds: int, seconds: float) -> dict:
    """Seconds, lengths and BLEU of each; `train` must have been called."""
    train(data)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(start_ours("translation_ours.py", "serve", str(_translator())))
        config = str(_joey() / "config.yaml")
        joey = stack.enter_context(start_peer("joey", "translation_joey.py", "serve", config))
        products = stack.enter_context(start_ours("products.py"))
        rows = {"ours": ours.ask("describe")}
        sources, targets = (
            (_joey() / f"test.{suffix}").read_text(encoding="utf-8").splitlines()
            for suffix in ("source", "target")
        )
        model = ours.ask("save_weights", path=str(_joey() / "weights.npz"))
        sizes = Sizes(multi30k.BATCH, **model, steps=multi30k.MAX_LENGTH + 1)
        script, weights = "translation_tfa.py", str(_joey() / "weights.npz")
        tfa = stack.enter_context(start_peer("tfa", script, weights, **sizes.environment()))
        rows |= {TFA: tfa.ask("describe"), "Joey": joey.ask("describe")}
        ids = ours.ask("source_ids", texts=sources)
        runs = _runs(ours, tfa, joey, sources, ids, sizes.steps)
        results: dict[str, list[dict]] = {name: [] for name in runs}
        timed = {name: functools.partial(_timed, results[name], run) for name, run in runs.items()}
        timed[PRODUCTS] = functools.partial(products.ask, "rate")
        times = interleaved(timed, rounds, seconds)
        found = {name: results[name][0] for name in runs}
        found[TFA]["texts"] = ours.ask("texts_of", ids=found[TFA]["ids"])
    rows["Joey, sorted"] = rows["Joey"]
    for name, one in found.items():
        pairs = zip(map(len, ids), one["lengths"], strict=True)
        rows[name] = {
            **rows[name],
            "seconds": times[name],
            "tokens": sum(one["lengths"]),
            "flops": sum(forward_flops(sizes, *pair, beams=work.BEAM_WIDTH) for pair in pairs),
            "same": sum(a == b for a, b in zip(found["ours"]["texts"], one["texts"], strict=True)),
            **_bleu(one["texts"], targets),
        }
    return {"rows": rows, "rate": times[PRODUCTS], "sentences": len(sources)}


def _runs(
    ours: Worker, tfa: Worker, joey: Worker, sources: list[str], ids: list[list[int]], steps: int
) -> dict:
    """What each does in a round; all have warmed up."""
    same = {"beam_width": work.BEAM_WIDTH, "batch_size": multi30k.BATCH}
    as_given = list(range(len(sources)))
    by_length = sorted(as_given, key=lambda index: len(sources[index]))
    ordered = Ordered(tfa, ids)
    joey_run = functools.partial(joey.ask, "translate", max_length=steps, **same)
    ours.ask("translate", texts=sources[:WARM_UP], **same)
    joey_run(order=as_given[:WARM_UP])
    ordered.warm_up()
    return {
        "ours": functools.partial(ours.ask, "translate", texts=sources, **same),
        TFA: ordered.translate,
        "Joey": functools.partial(joey_run, order=as_given),
        "Joey, sorted": functools.partial(joey_run, order=by_length),
    }


def _timed(results: list[dict], run: functools.partial) -> float:
    results.append(run())
    return results[-1]["seconds"]


class Ordered:
    """tfa's end: sorts and pads ids, and puts what comes back into the order of the sentences."""

    def __init__(self, tfa: Worker, ids: list[list[int]]) -> None:
        self.tfa = tfa
        self.order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        ordered = [ids[index] for index in self.order]
        starts = range(0, len(ids), multi30k.BATCH)
        self.batches = [_padded(ordered[start : start + multi30k.BATCH]) for start in starts]

    def warm_up(self) -> None:
        self.tfa.ask("translate", batches=self.batches[:1])

    def translate(self) -> dict:
        found = self.tfa.ask("translate", batches=self.batches)
        rows = dict(zip(self.order, found["ids"], strict=True))
        ids = [rows[index] for index in range(len(rows))]
        return {"seconds": found["seconds"], "ids": ids, "lengths": [len(row) for row in ids]}


def _padded(rows: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [work.PADDING_ID] * (longest - len(row)) for row in rows]


def _bleu(texts: list[str], targets: list[str]) -> dict:
    import sacrebleu

    metric = sacrebleu.BLEU()
    score = metric.corpus_score(texts, [targets]).score
    return {"bleu": score, "signature": str(metric.get_signature())}


def _run(command: list[str]) -> None:
    # What a training prints goes to the error stream: the output is the tables.
    subprocess.run(command, check=True, stdout=sys.stderr)
