"""From text files to batches of ids: tokenizers inside the graph, and tf.data pipelines."""

from keras_luong.text.batches import TrainingBatches, bucket_boundaries, evaluation_batches
from keras_luong.text.encoded_files import EncodedFiles, encode_files
from keras_luong.text.filters import PairFilter
from keras_luong.text.pairs import EncodedPairs, encode_pairs, read_pairs, stream_pairs
from keras_luong.text.sampled_pairs import SampledPairs, sample_pairs
from keras_luong.text.subword_tokenizer import SubwordTokenizer
from keras_luong.text_files import read_lines

__all__ = [
    "EncodedFiles",
    "EncodedPairs",
    "PairFilter",
    "SampledPairs",
    "SubwordTokenizer",
    "TrainingBatches",
    "bucket_boundaries",
    "encode_files",
    "encode_pairs",
    "evaluation_batches",
    "read_lines",
    "read_pairs",
    "sample_pairs",
    "stream_pairs",
]


def __dir__() -> list[str]:
    return sorted(__all__)
