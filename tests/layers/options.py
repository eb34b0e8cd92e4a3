"""Every public option of the attention layers and of the decoder, as cases that tests walk through.

A case makes a layer, and the arguments to call it with. `ALONE` has every option on its own (the
test of completeness reads the constructors), `PAIRS` every pair of options that may stand together.
"""

import dataclasses
import itertools
from collections.abc import Callable

import keras
import numpy as np

from keras_luong.layers import (
    AttentionDecoder,
    AttentionDecoderCell,
    BahdanauAttention,
    LuongAttention,
    MonotonicAttention,
    MultiSourceAttention,
    ResidualCell,
)
from tests.layers.layer_checks import OwnCell

BATCH, TARGET, SOURCE, OTHER_SOURCE, DEPTH, MEMORY_DEPTH, MAX_SOURCE = 2, 3, 5, 4, 4, 4, 8


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def source_mask(length=SOURCE):
    """The second sentence is shorter, and has a hole."""
    mask = np.ones((BATCH, length), bool)
    mask[1, 1] = mask[1, 3:] = False
    return mask


def target_mask():
    mask = np.ones((BATCH, TARGET), bool)
    mask[0, 2] = False
    return mask


@dataclasses.dataclass
class Case:
    """A layer and what it is called with.

    `still` names weights that no gradient reaches; `trains=False` a layer that none goes through.
    """

    make: Callable
    arrays: dict
    still: tuple = ()
    trains: bool = True
    call: dict = dataclasses.field(default_factory=lambda: {"return_attention_scores": True})


# ---------------------------------------------------------------------------------------------
# Attention layers
# ---------------------------------------------------------------------------------------------


def attention_arrays(sources=1, **more):
    value, mask = random(BATCH, SOURCE, MEMORY_DEPTH), source_mask()
    if sources == 2:
        value = [value, random(BATCH, OTHER_SOURCE, 3)]
        mask = [mask, source_mask(OTHER_SOURCE)]
    named = {"query": random(BATCH, TARGET, DEPTH), "value": value}
    return {**named, "query_mask": target_mask(), "value_mask": mask, **more}


def luong(still=(), arrays=None, **options):
    return Case(lambda: LuongAttention(**options), arrays or attention_arrays(), still)


def bahdanau(**options):
    return Case(lambda: BahdanauAttention(6, **options), attention_arrays())


def monotonic(wrapped=lambda: LuongAttention("general"), **options):
    trains = options.get("mode") != "hard"
    return Case(lambda: MonotonicAttention(wrapped(), **options), attention_arrays(), trains=trains)


def two_sources():
    return MultiSourceAttention([LuongAttention("general"), BahdanauAttention(6)])


LOCATION = {"score_mode": "location", "max_source_length": MAX_SOURCE}
TUTORIAL = {"score_mode": "tutorial", "max_source_length": MAX_SOURCE}
KEY = random(BATCH, SOURCE, 6)

ATTENTIONS = {
    "dot": luong(score_mode="dot", use_scale=True),
    "general": luong(),
    "key": luong(arrays=attention_arrays(key=KEY)),
    "concat": luong(score_mode="concat", units=6, use_bias=True),
    "concat_default_units": luong(score_mode="concat"),
    "location": luong(**LOCATION, use_bias=True),
    "tutorial": luong(**TUTORIAL),
    "tutorial_softmax": luong(**TUTORIAL, units=6, score_activation="softmax"),
    "local_m": luong(window="local_m", window_size=1),
    "query_position": luong(
        window="local_m",
        window_size=1,
        arrays=attention_arrays(query_position=random(BATCH, TARGET) + 2),
    ),
    "local_p": luong(window="local_p", window_size=2.5),
    # Through a hard maximum no gradient comes to the logits, through the window's factor one does.
    "hardmax": luong(("kernel",), window="local_p", window_size=2.5, probability_fn="hardmax"),
    "sparsemax": luong(probability_fn="sparsemax"),
    "coverage": luong(score_mode="concat", use_coverage=True),
    "state": luong(
        score_mode="concat",
        use_coverage=True,
        arrays=attention_arrays(state=np.abs(random(BATCH, SOURCE))),
    ),
    "dropout": luong(dropout=0.3, seed=5),
    "bahdanau": bahdanau(),
    "bahdanau_normalize": bahdanau(normalize=True),
    "bahdanau_coverage": bahdanau(use_coverage=True),
    "bahdanau_sparsemax": bahdanau(probability_fn="sparsemax"),
    "bahdanau_dropout": bahdanau(dropout=0.3, seed=5),
    "monotonic": monotonic(),
    "monotonic_bahdanau": monotonic(wrapped=lambda: BahdanauAttention(6, normalize=True)),
    "monotonic_recursive": monotonic(mode="recursive"),
    "monotonic_hard": monotonic(mode="hard"),
    "monotonic_noise": monotonic(sigmoid_noise=1.0, score_bias_init=-1.0, seed=5),
    "monotonic_dropout": monotonic(dropout=0.3, seed=5),
    "two_sources": Case(two_sources, attention_arrays(sources=2)),
}


# ---------------------------------------------------------------------------------------------
# Decoders
# ---------------------------------------------------------------------------------------------

CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(DEPTH),
    "gru_dropout": lambda: keras.layers.GRUCell(DEPTH, dropout=0.3, recurrent_dropout=0.3, seed=5),
    "simple_rnn": lambda: keras.layers.SimpleRNNCell(DEPTH),
    "residual_stack": lambda: keras.layers.StackedRNNCells(
        [
            keras.layers.LSTMCell(DEPTH),
            ResidualCell(keras.layers.GRUCell(DEPTH, dropout=0.3, seed=5)),
        ]
    ),
    "own": lambda: OwnCell(DEPTH),
}
CELL_SIZES = {
    "lstm": [4, 4],
    "gru_dropout": [4],
    "simple_rnn": [4],
    "residual_stack": [[4, 4], [4]],
    "own": [4, 2],
}
DECODER_ATTENTIONS = {
    "general": LuongAttention,
    "local_m": lambda: LuongAttention(window="local_m", window_size=1),
    "local_p": lambda: LuongAttention(window="local_p", window_size=2),
    "tutorial": lambda: LuongAttention(**TUTORIAL),
    "coverage": lambda: LuongAttention("concat", use_coverage=True, dropout=0.3, seed=5),
    "bahdanau": lambda: BahdanauAttention(6, normalize=True),
    "monotonic": lambda: MonotonicAttention(LuongAttention(), sigmoid_noise=1.0, seed=5),
    "two_sources": two_sources,
}
VECTORS = {
    "plain": {"units": 6},
    "bias_linear": {"units": 6, "use_bias": True, "attention_activation": None},
    "none": {"units": None},
    "two_layer": {"units": 6, "two_layer": True},
    "gate_context": {"units": 6, "gate": "context"},
    "gate_source": {"units": 6, "gate": "source"},
    "gate_target": {"units": 6, "gate": "target"},
    "gate_both": {"units": 6, "gate": "both"},
}
OUTPUTS = {
    "sequences": {},
    "state": {"return_state": True},
    "last": {"return_sequences": False, "return_state": True},
    "coverage_loss": {"coverage_loss": 0.5},
}


def decoder(
    attention="general",
    cell="lstm",
    vector="plain",
    output="sequences",
    input_feeding=True,
    key=False,
):
    def make():
        step = AttentionDecoderCell(
            CELLS[cell](),
            DECODER_ATTENTIONS[attention](),
            input_feeding=input_feeding,
            **VECTORS[vector],
        )
        return AttentionDecoder(step, **OUTPUTS[output])

    sizes = CELL_SIZES[cell]
    arrays = {
        "sequences": random(BATCH, TARGET, 3),
        "memory": random(BATCH, SOURCE, MEMORY_DEPTH),
        "sequences_mask": target_mask(),
        "memory_mask": source_mask(),
        "initial_state": keras.tree.map_structure(lambda size: random(BATCH, size), sizes),
    }
    if key:
        arrays["memory_key"] = KEY
    if attention == "two_sources":
        arrays["memory"] = [arrays["memory"], random(BATCH, OTHER_SOURCE, 3)]
        arrays["memory_mask"] = [arrays["memory_mask"], source_mask(OTHER_SOURCE)]
    return Case(make, arrays)


DECODERS = {
    **{f"decoder_{name}": decoder(attention=name) for name in DECODER_ATTENTIONS},
    **{f"decoder_{name}": decoder(cell=name) for name in CELLS if name != "lstm"},
    **{f"decoder_{name}": decoder(vector=name) for name in VECTORS if name != "plain"},
    **{f"decoder_{name}": decoder(output=name) for name in OUTPUTS if name != "sequences"},
    "decoder_no_input_feeding": decoder(input_feeding=False),
    "decoder_key": decoder(key=True),
}
ALONE = {**ATTENTIONS, **DECODERS}


# ---------------------------------------------------------------------------------------------
# Pairs
# ---------------------------------------------------------------------------------------------


def pairwise(axes, allowed=lambda row: True):
    """Rows over the axes in which every allowed pair of values stands at least once (greedy)."""
    rows = [
        row
        for values in itertools.product(*axes.values())
        if allowed(row := dict(zip(axes, values, strict=True)))
    ]
    covers = [set(itertools.combinations(row.items(), 2)) for row in rows]
    missing, chosen = set().union(*covers), []
    while missing:
        best = max(range(len(rows)), key=lambda index: len(covers[index] & missing))
        chosen.append(rows[best])
        missing -= covers[best]
    return chosen


LUONG_AXES = {
    "score": ("dot", "general", "concat", "location", "tutorial"),
    "window": ("global", "local_m", "local_p"),
    "probability_fn": ("softmax", "hardmax", "sparsemax"),
    "use_scale": (False, True),
    "use_bias": (False, True),
    "use_coverage": (False, True),
    "dropout": (0.0, 0.3),
}
DECODER_AXES = {
    "attention": tuple(DECODER_ATTENTIONS),
    "vector": tuple(VECTORS),
    "cell": tuple(CELLS),
    "output": tuple(OUTPUTS),
    "input_feeding": (True, False),
}


def luong_may(row):
    """Bias and coverage stand where the score has a place for them."""
    return (not row["use_bias"] or row["score"] in ("concat", "location")) and (
        not row["use_coverage"] or row["score"] == "concat"
    )


def luong_pair(row):
    options = {name: value for name, value in row.items() if name != "score"}
    if row["score"] in ("location", "tutorial"):
        options["max_source_length"] = MAX_SOURCE
    if row["window"] != "global":
        options["window_size"] = 2
    return luong(score_mode=row["score"], **options)


def label(row):
    return "-".join(
        str(name if value is True else value) for name, value in row.items() if value or value == 0
    )


PAIRS = {
    **{label(row): luong_pair(row) for row in pairwise(LUONG_AXES, luong_may)},
    **{label(row): decoder(**row) for row in pairwise(DECODER_AXES)},
}
