"""What passes and what does not while TensorFlow is imported, which is played here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795916789.478467    7028 port.cc:153] oneDNN custom operations are on. You may\n"
    "I0000 00:00:1795916789.478826    7028 cudart_stub.cc:31] Could not find cuda drivers\n"
)
OTHERS = (
    "E0000 00:00:1795916789.478826    7028 cuda_dnn.cc:31] Unable to register\n"
    "W0000 00:00:1795916789.478826    7028 x.cc:31] I am a warning\n"
    "I am a line of something else\n"
    "the last, without an end"
)
PROGRAM = """
import os, sys
from keras_luong_cli import without_import_notes
with without_import_notes():
    os.write(2, sys.argv[1].encode())
    print("of Python", file=sys.stderr)
    {then}
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("then", "code", "after"),
    [
        ("pass", 0, "after\n"),
        ("os.abort()", -6, ""),
        ("raise SystemExit('stopped')", 1, "stopped\n"),
    ],
)
def test_only_the_notes_are_hidden(then, code, after):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(then=then), NOTES + OTHERS],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (code, f"{OTHERS}of Python\n{after}")
