"""Joey NMT 2.3 beside the headline: the same subwords and sizes, as many updates.

What stays different in the model says `joey_config.py`; and its learning rate falls with the
inverse square root of the updates, ours with the clock, and its weights are no averages.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import sacrebleu

from benchmarks.peers import environments, multi30k
from benchmarks.peers.joey_config import joey_config
from benchmarks.peers.rounds import HERE, start_ours, start_peer
from benchmarks.table4.cells import BATCH, DROPOUT, MAX_LENGTH, UNITS, VOCABULARY

_SCRIPT = "translation_joey.py"
_BEAMS = {"greedy": 1, "beam": 5}
_ENOUGH = 6 * 60 * 60  # seconds: the updates end it


def measure(data: str, folder: Path, tokenizer: Path, updates: int) -> dict:
    """Trains, and translates the test set with the best of its validations.

    One that was ended begins anew.
    """
    config = _config(data, folder, tokenizer, updates)
    command = [environments.interpreter("joey"), str(HERE / _SCRIPT), "train", str(config)]
    # What it prints goes to the error stream.
    subprocess.run([*command, str(_ENOUGH)], check=True, stdout=sys.stderr)
    targets = (folder / "test.target").read_text(encoding="utf-8").splitlines()
    with start_peer("joey", _SCRIPT, "serve", str(config)) as joey:
        described = joey.ask("describe")
        scores = {}
        for name, width in _BEAMS.items():
            found = joey.ask(
                "translate",
                beam_width=width,
                batch_size=BATCH,
                max_length=MAX_LENGTH + 1,
                order=list(range(len(targets))),
            )
            scores[name] = sacrebleu.BLEU().corpus_score(found["texts"], [targets]).score
    log = (folder / "model" / "validations.txt").read_text(encoding="utf-8")
    return {"updates": updates, "rows": validations(log), "test": scores, **described}


def _config(data: str, folder: Path, tokenizer: Path, updates: int) -> Path:
    """Files for Joey; returns its configuration's path."""
    settings = multi30k.training_settings(
        data, tokenizer.parent, units=UNITS, vocabulary=VOCABULARY, epochs=1
    )
    with start_ours("translation_ours.py", "epoch", json.dumps(settings)) as ours:
        path = multi30k.write_joey_files(data, folder, ours, UNITS, layers=1)
    config = joey_config(
        folder, units=UNITS, layers=1, max_length=MAX_LENGTH, dropout=DROPOUT, seed=multi30k.SEED
    )
    training = config["training"]
    training["updates"] = updates
    # Joey asks that the one be smaller than the other.
    training["validation_freq"] = min(training["validation_freq"], updates)
    training["logging_freq"] = min(training["logging_freq"], updates // 2)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def validations(log: str) -> list[dict]:
    """Joey's validations: greedy, the BLEU of sacreBLEU."""
    found = re.findall(r"^Steps: (\d+)\t.*?\bbleu: ([\d.]+)", log, re.MULTILINE)
    return [{"updates": int(updates), "bleu": float(score)} for updates, score in found]
