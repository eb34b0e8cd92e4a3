"""What is trained on a GPU. Only the standard library."""

import functools

import work

# tensorflow/nmt's English-Vietnamese recipe (IWSLT 2015): its vocabularies and its depth.
NMT_SOURCE_VOCABULARY = 17191
NMT_TARGET_VOCABULARY = 7709
NMT_UNITS = work.UNITS
Ids = list[list[int]]


@functools.cache
def batch_of(task: str, batch: int) -> tuple[Ids, Ids, Ids]:
    """Source ids, target ids and labels, 30 tokens each and a sixth of them padding."""
    ids = work.pairs(batch)
    if task == "common":
        return ids
    # Which words they are makes no difference to the time.
    limits = (NMT_SOURCE_VOCABULARY, NMT_TARGET_VOCABULARY, NMT_TARGET_VOCABULARY)
    return tuple(  # type: ignore[return-value]
        [[min(one, limit - 1) for one in row] for row in rows]
        for rows, limit in zip(ids, limits, strict=True)
    )


def words(task: str, batch: int) -> tuple[int, int]:
    """Source and target words of a batch, without padding."""
    source, _, target = batch_of(task, batch)
    kept = [sum(one != work.PADDING_ID for row in ids for one in row) for ids in (source, target)]
    return kept[0], kept[1]


def product_flops(batch: int) -> float:
    """Operations of the common work's matrix products in a training step.

    Per token and product `2 rows columns`, and twice that again for the two gradients of each. The
    attention's own products are left out: 2 of them, 30 times 512 large, a token.
    """
    units, encoder, embedding = work.UNITS, work.ENCODER_UNITS, work.EMBEDDING
    source = 2 * (embedding + encoder) * 4 * encoder  # both ways
    keys = values = 2 * encoder * units
    cell = (embedding + units + units) * 4 * units
    target = cell + units * units + units * work.VOCABULARY
    tokens = batch * work.SOURCE_LENGTH
    return 3 * 2 * tokens * (source + keys + values + target)
