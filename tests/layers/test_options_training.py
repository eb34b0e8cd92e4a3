"""One training step of every option of the layers: the check walks `options.py`.

A file of its own: each program that XLA compiles stays in the memory of the process.
"""

import keras
import pytest

from tests.layers.layer_checks import check_training
from tests.layers.options import ALONE
from tests.reference import why_not

x64 = keras.backend.backend() == "jax" and why_not("float32")
# On TensorFlow XLA compiles the same graph, and refuses more of it.
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
# What these train, others train too.
TRAINED_BY_OTHERS = {
    f"decoder_{name}"
    for name in (
        "bias_linear none gate_context gate_source gate_target state last simple_rnn".split()
    )
}
# What JAX compiles always, and TensorFlow, whose XLA takes 10 seconds for a decoder, with what is
# long: other layers that it compiles hold the same operations.
LIKE_OTHERS = {
    *"key concat_default_units tutorial_softmax query_position monotonic_dropout".split(),
    *"bahdanau_coverage bahdanau_sparsemax bahdanau_dropout monotonic_bahdanau".split(),
    *"decoder_local_m decoder_local_p decoder_own decoder_two_layer decoder_key".split(),
    "decoder_coverage_loss",
}
LONG = TRAINED_BY_OTHERS | (LIKE_OTHERS if ON_TENSORFLOW else set())
assert set(ALONE) >= LONG
CASES = [
    pytest.param(case, id=name, marks=[pytest.mark.long] if name in LONG else [])
    for name, case in ALONE.items()
]
WITHOUT_XLA = pytest.param(False, marks=[pytest.mark.long] if ON_TENSORFLOW else [])


@pytest.mark.skipif(bool(x64), reason=str(x64))
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("jit_compile", [WITHOUT_XLA, True])
def test_a_training_step(case, jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch runs eagerly")
    if not jit_compile and keras.backend.backend() == "jax":
        pytest.skip("an eager loop of JAX compiles at every call; compiled it runs here")
    if not case.trains:
        pytest.skip("a hard choice has no gradient to train with")
    check_training(case.make(), case.arrays, jit_compile, case.still, **case.call)
