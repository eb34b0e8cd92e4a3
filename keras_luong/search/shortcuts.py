"""The names that stand for a search."""

from keras_luong.search.beam import BeamSearch
from keras_luong.search.greedy import GreedySearch
from keras_luong.search.sampling import SamplingSearch
from keras_luong.search.search import Search

_SHORTCUTS = {"greedy": GreedySearch(), "beam": BeamSearch(), "sampling": SamplingSearch()}


def search_of(search: str | Search) -> Search:
    """The search itself, or the one that `"greedy"`, `"beam"` or `"sampling"` names.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(search, Search):
        return search
    if isinstance(search, str) and search in _SHORTCUTS:
        return _SHORTCUTS[search]
    raise ValueError(
        f"search must be one of {sorted(_SHORTCUTS)} or a GreedySearch, BeamSearch or "
        f"SamplingSearch. Received: {search!r}"
    )
