"""The command `keras-luong`: training, translating and serving without a line of Python.

A package beside `keras_luong`, because to import anything of that imports Keras and its backend,
for which nobody who asks for `--help` wants to wait. It uses public names of `keras_luong` alone.
"""

from keras_luong_cli.parser import main

__all__ = ["main"]
