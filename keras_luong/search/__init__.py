"""Searches: loops over a step function and a state tree, which know no model."""

from keras_luong.search.beam import BeamSearch
from keras_luong.search.greedy import greedy
from keras_luong.search.result import SearchResult

__all__ = ["BeamSearch", "SearchResult", "greedy"]
