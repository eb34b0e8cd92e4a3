"""The command `keras-luong`: training, translating and serving without a line of Python.

A package beside `keras_luong`, because to import anything of that imports Keras and its backend,
for which nobody who asks for `--help` or mistypes a path wants to wait. It uses public names of
`keras_luong` only.
"""

from keras_luong_cli.import_notes import without_import_notes
from keras_luong_cli.parser import main

__all__ = ["main", "without_import_notes"]
