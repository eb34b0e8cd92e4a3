"""Batches of texts of similar length, and a progress bar over them."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_luong.checked_numbers import count_of

# So many batches are done before anybody would look for a bar.
_FEW = 4


def by_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cuts sentences into batches of similar length, so that they hold little padding.

    Args:
        lengths: Of the sentences, `(n,)`.
        batch_size: Sentences in a batch; the last one may have fewer.

    Returns:
        Indices of sentences, a batch each. The longest come first: what memory does not bear shows
        at once.

    Raises:
        ValueError: If `batch_size` is less than 1.

    Example:

    >>> [batch.tolist() for batch in by_length([3, 9, 4, 9, 1], 2)]
    [[1, 3], [2, 0], [4]]
    """
    batch_size = count_of("batch_size", batch_size)
    order = np.argsort(-np.asarray(lengths, int), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def check_verbose(verbose: Any) -> None:
    """Refuses what is neither `"auto"` nor 0 nor 1."""
    if verbose not in ("auto", 0, 1):
        raise ValueError(f'verbose must be "auto", 0 or 1. Received: {verbose!r}')


def with_progress(batches: list[np.ndarray], verbose: Any) -> Iterator[np.ndarray]:
    """Yields batches, and draws a bar of the sentences that are done.

    Args:
        batches: What `by_length` returns.
        verbose: 0 for no bar, 1 for a bar, `"auto"` for one over more than 4 batches.
    """
    is_shown = len(batches) > _FEW if verbose == "auto" else bool(verbose)
    bar = keras.utils.Progbar(sum(map(len, batches)), unit_name="text") if is_shown else None
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if bar is not None:
            bar.update(done)
