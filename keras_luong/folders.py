"""Folders that appear complete or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when it is full and on the disk, or never.

    It is filled beside `path` under another name, flushed to the disk and renamed, so that neither
    a crash nor a full disk leaves half of it under the name that others read.

    Args:
        path: What the folder is to be called. Its parents are made.

    Raises:
        FileExistsError: If `path` exists, at the start or when the folder is full.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with whole_folder(f"{parent}/1") as folder:
    ...         _ = (folder / "file").write_text("content")
    ...     print(sorted(os.listdir(parent)))
    ['1']
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{str(path)!r} exists and is not overwritten.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A leading dot and letters: TF Serving, which looks for integers, never takes it for a version.
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    folder.mkdir()
    try:
        yield folder
        for part in (*folder.rglob("*"), folder):
            _flush_to_disk(part)
        # A rename would replace an empty folder in silence.
        if path.exists():
            raise FileExistsError(f"{str(path)!r} appeared meanwhile and is not overwritten.")
        folder.rename(path)
        _flush_to_disk(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
