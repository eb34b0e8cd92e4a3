"""What the command says of itself, quickly, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from keras_luong_cli.parser import main

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = "train translate evaluate export check serve-config".split()
WITHOUT_KERAS = """
import sys
from keras_luong_cli import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    assert done.code == 0, done.code
assert not {"keras", "tensorflow", "numpy", "keras_luong"} & set(sys.modules)
"""


@pytest.mark.parametrize("arguments", [["--help"], *([one, "--help"] for one in COMMANDS)])
def test_help_shows_examples_and_imports_nothing_large(arguments):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shown = COMMANDS if arguments == ["--help"] else arguments[:1]
    for one in shown:
        assert f"keras-luong {one} " in done.stdout, one
    assert "exit status" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["translate"],
        ["translate", "x", "--batch-size", "0"],
        ["translate", "x", "--search", "best"],
        ["train", "a", "b"],
        ["train", "a", "b", "--out", "c", "--dropout", "1"],
        ["export", "x"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: keras-luong" in capsys.readouterr().err
