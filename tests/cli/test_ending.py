"""Streams that are closed or full, and signals: a sentence and a status, never a traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The real command, but for what imports TensorFlow.
PROGRAM = """
import os, sys, time, types
from keras_luong_cli import main
stub = types.ModuleType("keras_luong_cli.commands")
def evaluate(options):
    print("signatures", file=sys.stderr)
    print("scores")
    return 0
def check(options):
    print("problem")
    return 1
def export(options):
    print(sorted(os.listdir("/proc/self/fd"))[:3], flush=True)
    time.sleep(60)
stub.evaluate, stub.check, stub.export = evaluate, check, export
sys.modules[stub.__name__] = stub
raise SystemExit(main(sys.argv[1:]))
"""
PIPE = "Broken pipe: 'standard output'"


@pytest.fixture
def folder(tmp_path):
    for name in ("model.keras", "source.tokenizer", "target.tokenizer", "translator.json"):
        (tmp_path / "en_de").mkdir(exist_ok=True)
        (tmp_path / "en_de" / name).write_text("{}")
    for name in ("program.py", "a", "saved_model.pb"):
        (tmp_path / name).write_text(PROGRAM)
    return tmp_path


def shell(folder, line, **options):
    line = line.replace("keras-luong", f"'{sys.executable}' program.py")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        ["sh", "-c", line],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("line", "status", "output", "error"),
    [
        ("keras-luong check . >&-", 2, "", "check: error: Standard output is closed."),
        ("keras-luong check . > /dev/full", 2, "", "No space left on device: 'standard output'"),
        ("(keras-luong check .; echo $? >&2) | sleep 0", 0, "", f"{PIPE}\n2"),
        ("keras-luong check . > /dev/full 2>&1", 2, "", ""),
        ("keras-luong check . 2>&-", 1, "problem\n", ""),
        ("keras-luong evaluate en_de a a --search greedy 2>&-", 0, "scores\n", ""),
        ("keras-luong translate en_de <&-", 2, "", "translate: error: Standard input is closed."),
        ("keras-luong train - a --out x <&-", 2, "", "train: error: Standard input is closed."),
        ("keras-luong export en_de m --scores - <&-", 2, "", "standard input, which is closed"),
        ("keras-luong --version <&- >&-", 0, "", ""),
    ],
)
def test_standard_streams(folder, line, status, output, error):
    if "evaluate" in line:
        pytest.importorskip("sacrebleu")
    process = shell(folder, line)
    out, err = process.communicate()
    assert (process.returncode, out) == (status, output), err
    assert error in err and "Traceback" not in err and "Exception" not in err


def test_sigterm(folder):
    process = shell(folder, "exec keras-luong export en_de models <&-")
    assert process.stdout.readline() == "['0', '1', '2']\n"  # no file has their numbers
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", "keras-luong: stopped by SIGTERM\n")
    assert process.returncode == 143
