"""Pairs of two files of any size as ids on the disk, made once."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_luong.checked_numbers import count_of
from keras_luong.folders import whole_folder
from keras_luong.paths import PathLike, RemotePath, local_copy, path_of
from keras_luong.text.filters import PairFilter
from keras_luong.text.fingerprint import Fingerprint
from keras_luong.text.pairs import encode_some, stream_pairs
from keras_luong.text.subword_tokenizer import SubwordTokenizer, check_tokenizers

Pair = tuple[str, str]

# Pairs that are tokenized at a time.
_CHUNK = 65_536
_SIDES = ("source", "target")
_FACTS = "facts.json"
# Of the folder; another number makes those before it strangers.
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class EncodedFiles:
    """Pairs of sentences as ids without start and end, in files that are read where they are.

    What stands in memory is where each sentence ends, 16 bytes a pair, and 115 more or so where
    `TrainingBatches` shuffles them.

    Attributes:
        source: The source sides.
        target: The target sides.
        dropped: How many pairs were left out, by reason; those of a `PairFilter` too, each reason
            with `"filter."` before it.
        tokenizers: SHA-256 of the tokenizers' models, that of the source first.
        files: What the two files hold, as `Translator.training_data` has it.
    """

    source: "IdFile"
    target: "IdFile"
    dropped: dict[str, int]
    tokenizers: list[str]
    files: dict[str, Any]

    def __len__(self) -> int:
        return len(self.source)


class IdFile:
    """Rows of ids, one behind the other in a file.

    Args:
        folder: Where the file of ids and that of the rows' ends stand.
        name: What they are called.
    """

    def __init__(self, folder: Path | RemotePath, name: str) -> None:
        with local_copy(folder / f"{name}.ends.npy") as file:
            ends = np.load(file)
        self._splits = np.concatenate([[0], ends])
        # Of a remote file the copy has no name any more afterwards, and lasts as long as the map.
        with local_copy(folder / f"{name}.ids") as file:
            self._ids = np.memmap(file, np.int32, "r", shape=(int(ends[-1]),))

    def __len__(self) -> int:
        return len(self._splits) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self._ids[self._splits[row] : self._splits[row + 1]]

    def row_lengths(self) -> np.ndarray:
        """How many ids each row has, `(n,)`."""
        return np.diff(self._splits)


def encode_files(
    source_path: PathLike,
    target_path: PathLike,
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    folder: PathLike,
    *,
    max_length: int = 100,
    pair_filter: Callable[[Iterable[Pair]], Iterator[Pair]] | None = None,
) -> EncodedFiles:
    """Tokenizes two parallel files once, and keeps the ids in a folder for the next time.

    The files may be larger than memory. A folder that is there is read, if it was made of the same
    files by the same tokenizers and limits.

    Args:
        source_path: Source texts, one a line, plain or `.gz`, as `read_lines` reads them.
        target_path: Target texts.
        source_tokenizer: Tokenizer of the source texts.
        target_tokenizer: Tokenizer of the target texts; may be the same.
        folder: Where the ids are kept. It appears complete or not at all. Of one with a scheme
            (`gs://...`) a copy is made for every process that reads it, in its temporary folder.
        max_length: The most tokens that either side may have, the end not counted.
        pair_filter: A `PairFilter`, or a function of pairs, told apart by its name alone: after a
            change to it remove the folder. When the folder is there already it is not called.

    Returns:
        The pairs that have at least 1 and at most `max_length` tokens on both sides, in the order
        of the files.

    Raises:
        FileNotFoundError: As `stream_pairs`.
        ValueError: As `stream_pairs`; if no pair remains; and if the folder was made of something
            else.
    """
    place = path_of(folder)
    check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
    max_length = count_of("max_length", max_length)
    facts = _facts(
        source_path, target_path, source_tokenizer, target_tokenizer, max_length, pair_filter
    )
    if place.exists():
        return _opened(place, facts)
    fingerprint, counted = Fingerprint(), _Counted(pair_filter)
    pairs = counted(fingerprint.of(stream_pairs(source_path, target_path)))
    try:
        with whole_folder(place, last=_FACTS) as unfinished:
            dropped = _write(pairs, (source_tokenizer, target_tokenizer), unfinished, max_length)
            dropped |= counted.dropped()
            found = {**facts, "dropped": dropped, "fingerprint": fingerprint.facts()}
            (unfinished / _FACTS).write_text(json.dumps(found, indent=2), encoding="utf-8")
    except FileExistsError:
        # Of processes that train together the first to be done writes, and all read.
        if not place.exists():
            raise
    return _opened(place, facts)


class _Counted:
    """A filter, or none, and what it has left out here: it may have been used before."""

    def __init__(self, pair_filter: Callable[[Iterable[Pair]], Iterator[Pair]] | None) -> None:
        self._filter = pair_filter
        self._before = self._counts()

    def __call__(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        return self._filter(pairs) if self._filter else pairs

    def dropped(self) -> dict[str, int]:
        """By reason, as `EncodedFiles.dropped` has them."""
        counts = self._counts().items()
        return {f"filter.{reason}": count - self._before[reason] for reason, count in counts}

    def _counts(self) -> dict[str, int]:
        return dict(self._filter.dropped) if isinstance(self._filter, PairFilter) else {}


def _facts(
    source_path: Any,
    target_path: Any,
    source_tokenizer: SubwordTokenizer,
    target_tokenizer: SubwordTokenizer,
    max_length: int,
    pair_filter: Any,
) -> dict[str, Any]:
    """What the ids depend on."""
    files = [path_of(path).stat() for path in (source_path, target_path)]
    return {
        "format": _FORMAT,
        "files": [[file.st_size, file.st_mtime_ns] for file in files],
        "tokenizers": model_hashes(source_tokenizer, target_tokenizer),
        "max_length": max_length,
        "pair_filter": _name(pair_filter),
    }


def model_hashes(*tokenizers: SubwordTokenizer) -> list[str]:
    """SHA-256 of the models of tokenizers."""
    return [hashlib.sha256(one.model).hexdigest() for one in tokenizers]


def _name(pair_filter: Any) -> str:
    """What tells one filter from another in every process: the `repr` of a function does not."""
    return getattr(pair_filter, "__qualname__", None) or repr(pair_filter)


def _opened(folder: Path | RemotePath, facts: dict[str, Any]) -> EncodedFiles:
    try:
        found = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    other = [name for name, fact in facts.items() if found.get(name) != fact]
    if other:
        raise ValueError(
            f"The ids in {str(folder)!r} were made of something else: {', '.join(other)}. Remove "
            "the folder, or name another."
        )
    source, target = (IdFile(folder, side) for side in _SIDES)
    return EncodedFiles(source, target, found["dropped"], found["tokenizers"], found["fingerprint"])


def _write(
    pairs: Iterable[Pair],
    tokenizers: tuple[SubwordTokenizer, SubwordTokenizer],
    folder: Path,
    max_length: int,
) -> dict[str, int]:
    """Writes the files of both sides; returns what was dropped."""
    dropped = {"empty": 0, "too_long": 0}
    stream, kept = iter(pairs), 0
    writers = [_Writer((folder / f"{side}.ids").open("wb")) for side in _SIDES]
    try:
        while chunk := list(itertools.islice(stream, _CHUNK)):
            encoded = encode_some(chunk, *tokenizers, max_length)
            for writer, rows in zip(writers, (encoded.source, encoded.target), strict=True):
                writer.add(rows)
            for reason, count in encoded.dropped.items():
                dropped[reason] += count
            kept += len(encoded)
    finally:
        for writer in writers:
            writer.file.close()
    if not kept:
        raise ValueError(f"No pair remains. Dropped: {dropped}")
    for side, writer in zip(_SIDES, writers, strict=True):
        np.save(folder / f"{side}.ends.npy", np.concatenate(writer.ends))
    return dropped


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.ends: list[np.ndarray] = []
        self._end = 0

    def add(self, rows: Any) -> None:
        """Appends ragged rows."""
        self.file.write(rows.values.numpy().tobytes())
        ends = self._end + rows.row_splits.numpy()[1:]
        self.ends.append(ends)
        self._end = int(ends[-1]) if len(ends) else self._end
