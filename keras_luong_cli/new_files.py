"""Files that are written whole or not at all, and over nothing."""

import contextlib
from collections.abc import Mapping
from pathlib import Path


def write_new(texts: Mapping[Path, str]) -> None:
    """Writes texts into new files; after a failure none of them is there.

    Raises:
        FileExistsError: If one of the files exists.
        OSError: If one cannot be written, as on a full disk.
    """
    for path in texts:
        if path.exists():
            raise FileExistsError(f"{str(path)!r} exists and is not overwritten.")
        path.parent.mkdir(parents=True, exist_ok=True)
    begun: list[Path] = []
    try:
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                begun.append(path)
                file.write(text)
    except OSError as error:
        for one in begun:
            with contextlib.suppress(OSError):
                one.unlink()
        # What a `write` raises does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error
