"""Files of the real jobs: Multi30k's texts, and what Joey NMT reads."""

import gzip
import json
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.joey_config import joey_config
from benchmarks.peers.worker import Worker

SEED = 1
BATCH = 64  # sentences
DROPOUT = 0.3
MAX_LENGTH = 80  # subwords of a sentence that is trained on


def folder() -> Path:
    """Where models and files of the real jobs stand."""
    return environments.cache() / "multi30k"


def files(data: str, name: str) -> list[str]:
    """The English and the German file of a part of the data."""
    found = []
    for language in ("en", "de"):
        plain = Path(data) / f"{name}.{language}"
        packed = Path(data) / f"{name}.{language}.gz"
        if not (plain.exists() or packed.exists()):
            raise SystemExit(f"Neither {plain} nor {packed} exists.")
        found.append(str(plain if plain.exists() else packed))
    return found


def training_settings(data: str, work: Path, **changes: object) -> dict:
    """What `translation_ours.py` trains by."""
    return {
        "train": files(data, "train"),
        "valid": files(data, "val"),
        "work": str(work),
        "batch_size": BATCH,
        "dropout": DROPOUT,
        "max_length": MAX_LENGTH,
        "layers": 1,
        "seed": SEED,
        **changes,
    }


def write_joey_files(data: str, into: Path, ours: Worker, units: int, layers: int) -> Path:
    """Texts, vocabulary and configuration of the same model for Joey; returns the latter's path."""
    into.mkdir(parents=True, exist_ok=True)
    for name, theirs in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
        for path, suffix in zip(files(data, name), ("source", "target"), strict=True):
            text = "".join(f"{line}\n" for line in _lines(path))
            (into / f"{theirs}.{suffix}").write_text(text, encoding="utf-8")
    pieces = ours.ask("save_vocabulary", path=str(into / "joint.model"))
    (into / "joint.vocabulary").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = joey_config(
        into, units=units, layers=layers, max_length=MAX_LENGTH, dropout=DROPOUT, seed=SEED
    )
    path = into / "config.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def _lines(path: str) -> list[str]:
    """Joey splits its files at everything that Python counts as the end of a line: none is left."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return [" ".join(line.decode("utf-8").split()) for line in file]
