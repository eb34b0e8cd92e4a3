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
from keras_luong.layers.arguments import checked_flag
from keras_luong.paths import PathLike, RemotePath, path_of
from keras_luong.stored_arrays import read_array
from keras_luong.stored_json import anything, mapping_of, read_json, record, whole
from keras_luong.stored_parts import (
    check_sum,
    checked_blocks,
    local_parts,
    part_of,
    read_sums,
    write_sums,
)
from keras_luong.text.filters import PairFilter
from keras_luong.text.fingerprint import CHECKED_FACTS, Fingerprint
from keras_luong.text.pairs import encode_some, stream_pairs
from keras_luong.text.subword_tokenizer import SubwordTokenizer, check_tokenizers

Pair = tuple[str, str]

# Pairs that are tokenized at a time.
_CHUNK = 65_536
_SIDES = ("source", "target")
_FACTS = "facts.json"
_PARTS = (_FACTS, *(f"{side}.{kind}" for side in _SIDES for kind in ("ids", "ends.npy")))
# Of the folder; another number makes those before it strangers.
_FORMAT = 3
_ID = np.dtype("int32")
_MADE_OF = ("format", "files", "tokenizers", "max_length", "pair_filter")
_CHECKED_FACTS = record(
    {
        **dict.fromkeys(_MADE_OF, anything),  # compared with what is given
        "dropped": mapping_of(whole()),
        "fingerprint": CHECKED_FACTS,
    }
)


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
        ids: The file of ids.
        ends: That of the rows' ends.
        most: The most ids that a row may have.

    Raises:
        ValueError: If the ends do not fit the ids.
    """

    def __init__(self, ids: Path, ends: Path, most: int) -> None:
        self._splits = np.concatenate([[0], read_array(ends, "iu", (None,)).astype("int64")])
        lengths = self.row_lengths()
        if not len(lengths) or lengths.min() < 1 or lengths.max() > most:
            raise ValueError(
                f"{str(ends)!r} cannot be read: it must hold where rows of 1 to {most} ids end. "
                f"Received: {len(lengths)} rows of {np.min(lengths, initial=most)} to "
                f"{np.max(lengths, initial=0)}"
            )
        count = int(self._splits[-1])
        if ids.stat().st_size != count * _ID.itemsize:
            raise ValueError(
                f"{str(ids)!r} cannot be read: it must have {count * _ID.itemsize} bytes, for "
                f"{count} ids. Received: {ids.stat().st_size}"
            )
        # Of a remote file the copy has no name any more afterwards, and lasts as long as the map.
        self._ids = np.memmap(ids, _ID, "r", shape=(count,))

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
    check_hashes: bool = True,
) -> EncodedFiles:
    """Tokenizes two parallel files once, and keeps the ids in a folder for the next time.

    The files may be larger than memory. A folder that is there is read, if it was made of the same
    files by the same tokenizers and limits. Its `SHA256SUMS` has the SHA-256 of every file in it.

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
        check_hashes: Whether a folder that is there is read through first: every SHA-256, and that
            all ids are of the tokenizers' vocabularies. 10 GB take 8 s of a core (AMD EPYC,
            2026-11-29), and what the disk needs. Without it the sizes are checked, and the rest
            is trusted.

    Returns:
        The pairs that have at least 1 and at most `max_length` tokens on both sides, in the order
        of the files.

    Raises:
        FileNotFoundError: As `stream_pairs`.
        ValueError: As `stream_pairs`; if no pair remains; and if the folder was made of something
            else or its files are not what was written there.
    """
    check_hashes = checked_flag("check_hashes", check_hashes)
    place = path_of(folder)
    check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
    max_length = count_of("max_length", max_length)
    facts = _facts(
        source_path, target_path, source_tokenizer, target_tokenizer, max_length, pair_filter
    )
    sizes = [one.vocabulary_size for one in (source_tokenizer, target_tokenizer)]
    if place.exists():
        return _opened(place, facts, sizes if check_hashes else None)
    fingerprint, counted = Fingerprint(), _Counted(pair_filter)
    pairs = counted(fingerprint.of(stream_pairs(source_path, target_path)))
    try:
        with whole_folder(place, last=_FACTS) as unfinished:
            dropped = _write(pairs, (source_tokenizer, target_tokenizer), unfinished, max_length)
            dropped |= counted.dropped()
            found = {**facts, "dropped": dropped, "fingerprint": fingerprint.facts()}
            (unfinished / _FACTS).write_text(json.dumps(found, indent=2), encoding="utf-8")
            write_sums(unfinished)
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


def _opened(
    folder: Path | RemotePath, facts: dict[str, Any], sizes: list[int] | None = None
) -> EncodedFiles:
    """Opens a folder that was made of `facts`.

    It is read through first if the sizes of its vocabularies are given.
    """
    found = _found_facts(folder)
    other = [name for name, fact in facts.items() if found.get(name) != fact]
    if other:
        raise ValueError(
            f"The ids in {str(folder)!r} were made of something else: {', '.join(other)}. Remove "
            "the folder, or name another."
        )
    with local_parts(folder, _PARTS) as parts:
        found = read_json(parts[_FACTS], _CHECKED_FACTS)
        source, target = (
            IdFile(parts[f"{side}.ids"], parts[f"{side}.ends.npy"], facts["max_length"])
            for side in _SIDES
        )
        if sizes is not None:
            _read_through(folder, parts, sizes)
    if len(source) != len(target):
        raise ValueError(
            f"{str(folder)!r} cannot be read: it must have as many rows of one side as of the "
            f"other. Received: {len(source)} and {len(target)}"
        )
    return EncodedFiles(source, target, found["dropped"], facts["tokenizers"], found["fingerprint"])


def _found_facts(folder: Path | RemotePath) -> dict[str, Any]:
    """What a folder says that it was made of; empty without its file of facts."""
    if not folder.is_dir() or not (folder / _FACTS).exists():
        return {}
    return read_json(part_of(folder, _FACTS), mapping_of(anything))


def _read_through(folder: Path | RemotePath, parts: dict[str, Path], sizes: list[int]) -> None:
    sums = read_sums(folder, _PARTS)
    vocabulary = {f"{side}.ids": size for side, size in zip(_SIDES, sizes, strict=True)}
    for name, path in parts.items():
        if name in vocabulary:
            _check_ids(path, sums[name], folder, vocabulary[name])
        else:
            check_sum(path, sums[name], folder)


def _check_ids(path: Path, expected: str, folder: Path | RemotePath, vocabulary_size: int) -> None:
    for block in checked_blocks(path, expected, folder):
        ids = np.frombuffer(block, _ID)
        if ids.min() < 0 or ids.max() >= vocabulary_size:
            raise ValueError(
                f"{str(folder / path.name)!r} must hold ids from 0 to {vocabulary_size - 1}. "
                f"Received: {ids.min()} to {ids.max()}"
            )


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
