"""What an export says of itself: `assets.extra/model_card.json`."""

import hashlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

PLACE = Path("assets.extra") / "model_card.json"

_DISTRIBUTIONS = ("keras-luong", "keras", "tensorflow", "tensorflow-text")


def model_card(
    concrete_functions: Mapping[str, Any], scores: Mapping[str, float] | None, **facts: Any
) -> str:
    """Writes the card of an export, as JSON.

    Args:
        concrete_functions: By signature.
        scores: What the model reached, by the name of the measure.
        **facts: What else there is to say.

    Returns:
        An object with `versions` of the libraries; `signatures`, each with `dtype` and `shape` of
        its `inputs` and `outputs`, a size that changes being null; `scores`; and the `facts`.

    Raises:
        ValueError: For scores that are no finite numbers.
    """
    card = {
        "versions": {"python": platform.python_version(), **_versions()},
        **facts,
        "scores": _checked(scores or {}),
        "signatures": {name: _signature(one) for name, one in concrete_functions.items()},
    }
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def hashes(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    r"""SHA-256 of both sides of parallel text, every line ended by `\n`.

    So they are what `sha256sum` says of two files with one sentence a line.

    Example:

    >>> hashes([("one", "eins")])["source_sha256"][:16]  # printf 'one\n' | sha256sum
    '2c8b08da5ce60398'
    """
    source, target, count = hashlib.sha256(), hashlib.sha256(), 0
    for one, other in pairs:
        source.update(one.encode() + b"\n")
        target.update(other.encode() + b"\n")
        count += 1
    return {
        "pairs": count,
        "source_sha256": source.hexdigest(),
        "target_sha256": target.hexdigest(),
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            found[name] = None
    return found | {"keras": keras.__version__, "tensorflow": tf.__version__}


def _checked(scores: Mapping[str, float]) -> dict[str, float]:
    for name, score in scores.items():
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"scores must be finite numbers by name. Received {name!r}: {score!r}")
    return dict(scores)


def _signature(concrete_function: Any) -> dict[str, Any]:
    inputs = tf.nest.flatten(concrete_function.structured_input_signature)
    outputs = concrete_function.structured_outputs
    return {"inputs": _tensors({spec.name: spec for spec in inputs}), "outputs": _tensors(outputs)}


def _tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in sorted(specs.items())
    }
