"""Searches: loops over a step function and a state tree, which know no model."""

from keras_luong.search.beam import BeamSearch
from keras_luong.search.greedy import GreedySearch
from keras_luong.search.request import Request
from keras_luong.search.result import SearchResult
from keras_luong.search.sampling import SamplingSearch
from keras_luong.search.search import Search
from keras_luong.search.shortcuts import search_of
from keras_luong.search.shortlist import Shortlist

__all__ = [
    "BeamSearch",
    "GreedySearch",
    "Request",
    "SamplingSearch",
    "Search",
    "SearchResult",
    "Shortlist",
    "search_of",
]


def __dir__() -> list[str]:
    return sorted(__all__)
