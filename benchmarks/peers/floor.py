"""The sizes of the model, and how many operations its matrix products take: the floor of a time."""

import dataclasses
import json

from benchmarks.peers import work


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The common work; a driver hands other sizes to its workers in their environment."""

    batch: int
    vocabulary: int = work.VOCABULARY
    embedding: int = work.EMBEDDING
    encoder_units: int = work.ENCODER_UNITS  # each way
    units: int = work.UNITS  # of the decoder, its attention and its attention vector
    source_length: int = work.SOURCE_LENGTH
    steps: int = work.STEPS  # the target's length

    def environment(self) -> dict[str, str]:
        return {"WORK_SIZES": json.dumps(dataclasses.asdict(self))}


def forward_flops(
    sizes: Sizes, source_length: int, target_length: int, *, beams: int = 1, attention: bool = True
) -> int:
    """Operations of the products that one sentence takes; `m x k` by `k x n` are `2 m k n`.

    Those of the model as its formulas have it, whatever is folded or saved when it runs:

    - a source token: an LSTM each way (4 gates; its kernel sees the embedding and its own output),
      and its key;
    - a sentence: two dense layers from the encoder's four last states;
    - a target token, in each beam: the LSTM (embedding, own output and, fed back, the attention
      vector), a logit and a share of the context a source token, the attention vector, and the
      product with the vocabulary.

    Without attention there are no keys, logits, contexts and attention vectors.
    """
    units, memory = sizes.units, 2 * sizes.encoder_units
    encoder = 2 * 4 * sizes.encoder_units * (sizes.embedding + sizes.encoder_units)
    bridges = 2 * (2 * memory) * units
    cell = 4 * units * (sizes.embedding + units)
    head = units * sizes.vocabulary
    if attention:
        encoder += memory * units
        cell += 4 * units * units + source_length * (units + memory) + (memory + units) * units
    return 2 * (source_length * encoder + bridges + beams * target_length * (cell + head))


def training_flops(sizes: Sizes, *, attention: bool = True) -> int:
    """A step on a batch, padding included: each product has two more, its gradients."""
    forward = forward_flops(sizes, sizes.source_length, sizes.steps, attention=attention)
    return 3 * sizes.batch * forward


def search_flops(sizes: Sizes, beams: int) -> int:
    """A search of all steps for a batch, padding included."""
    return sizes.batch * forward_flops(sizes, sizes.source_length, sizes.steps, beams=beams)
