"""What an export says of itself: `assets.extra/model_card.json`."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from numbers import Integral, Real
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
        if not isinstance(score, Real) or not math.isfinite(score):
            raise ValueError(f"scores must be finite numbers by name. Received {name!r}: {score!r}")
    return {
        name: int(score) if isinstance(score, Integral) else float(score)
        for name, score in scores.items()
    }


def _signature(concrete_function: Any) -> dict[str, Any]:
    inputs = tf.nest.flatten(concrete_function.structured_input_signature)
    outputs = concrete_function.structured_outputs
    return {"inputs": _tensors({spec.name: spec for spec in inputs}), "outputs": _tensors(outputs)}


def _tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in sorted(specs.items())
    }
