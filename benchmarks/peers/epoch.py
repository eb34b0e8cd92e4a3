"""A real job: an epoch of Multi30k, ours beside Joey NMT 2.3.

8,000 joint subwords, LSTM of 512 (encoder 256 each way), embedding 512, Luong's general score,
input feeding, tied vocabulary product, dropout 0.3, label smoothing, Adam; batches of 64 sentences.
Ours is `Translator.fit`, which pads to a few lengths; Joey is its own `train`, as it shuffles and
pads. The two go on by chunks of updates, in turns. Ours runs a whole epoch, the first, tracing and
compiling included; Joey as many updates as asked for.
"""

import contextlib
import functools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers import multi30k
from benchmarks.peers.floor import Sizes, forward_flops
from benchmarks.peers.rounds import PRODUCTS, interleaved, start_ours, start_peer

WARM_UP = 3  # updates of Joey's


def measure(data: str, units: int, vocabulary: int, chunks: int, joey_updates: int) -> dict:
    """Seconds of each chunk, the updates in it and in an epoch, and an epoch's products."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = multi30k.training_settings(
            data, folder / "work", units=units, vocabulary=vocabulary, epochs=2
        )
        script = "translation_ours.py"
        ours = stack.enter_context(start_ours(script, "epoch", json.dumps(settings)))
        products = stack.enter_context(start_ours("products.py"))
        rows = {"ours": ours.ask("describe")}
        config = multi30k.write_joey_files(data, folder / "joey", ours, units, layers=1)
        joey = stack.enter_context(start_peer("joey", "translation_joey.py", "epoch", str(config)))
        rows["Joey"] = joey.ask("describe")
        lengths = ours.ask("lengths")
        rows["ours"]["updates"] = math.ceil(rows["ours"]["epoch_updates"] / chunks)
        rows["Joey"]["updates"] = joey_updates
        # It leaves out the last batch where that is not full.
        rows["Joey"]["epoch_updates"] = len(lengths) // multi30k.BATCH
        joey.ask("updates", count=WARM_UP)
        runs: dict[str, Any] = {
            name: functools.partial(worker.ask, "updates", count=rows[name]["updates"])
            for name, worker in (("ours", ours), ("Joey", joey))
        }
        runs[PRODUCTS] = functools.partial(products.ask, "rate")
        times = interleaved(runs, chunks, math.inf)
    sizes = Sizes(
        multi30k.BATCH, vocabulary, embedding=units, encoder_units=units // 2, units=units
    )
    return {
        "rows": {name: {**row, "seconds": times[name]} for name, row in rows.items()},
        "rate": times[PRODUCTS],
        "flops": 3 * sum(forward_flops(sizes, *pair) for pair in lengths),
        "sentences": len(lengths),
    }
