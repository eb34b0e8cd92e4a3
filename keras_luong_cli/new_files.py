"""Files that are written whole or not at all, and over nothing."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from keras_luong_cli.option_types import AnyPath


def write_new(texts: Mapping[AnyPath, str]) -> None:
    """Writes texts into new files; after a failure none of them is there.

    Raises:
        FileExistsError: If one of the files exists.
        OSError: If one cannot be written, as on a full disk.
    """
    for path in texts:
        if path.exists():
            raise FileExistsError(f"{str(path)!r} exists and is not overwritten.")
    begun: list[AnyPath] = []
    try:
        for path, text in texts.items():
            _write(path, text, begun)
    except OSError as error:
        for one in begun:
            with contextlib.suppress(OSError):
                one.unlink()
        # What a `write` raises does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: AnyPath, text: str, begun: list[AnyPath]) -> None:
    if not isinstance(path, Path):
        from keras_luong.folders import whole_file  # imported with the path's file system

        with whole_file(path) as file:
            file.write_text(text, encoding="utf-8")
        begun.append(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        begun.append(path)
        file.write(text)
