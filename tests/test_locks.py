"""Two processes and a lock between them; the other process imports the file without Keras."""

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from keras_luong import locks
from keras_luong.locks import locked_folder, locked_name

OTHER = """
import os, pathlib, sys, types
package = types.ModuleType("keras_luong")
package.__path__ = [os.path.dirname(sys.argv[1])]
sys.modules["keras_luong"] = package
from keras_luong import locks
try:
    with getattr(locks, sys.argv[2])(pathlib.Path(sys.argv[3])):
        print("in", flush=True)
        sys.stdin.read()
except BlockingIOError as error:
    print(error)
"""


def other(lock, path):
    arguments = [sys.executable, "-c", OTHER, locks.__file__, lock.__name__, str(path)]
    return subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said_by_another(lock, path):
    output, error = other(lock, path).communicate("")
    assert not error
    return output


@pytest.mark.parametrize("lock", [locked_folder, locked_name])
def test_another_process_hears_at_once_who_is_there(tmp_path, lock):
    path = tmp_path / "a" / "en_de"
    with lock(path):
        me = f"process {os.getpid()} on {socket.gethostname()}"
        assert said_by_another(lock, path).startswith(f"'{path}' is being written by {me}: wait")
    assert said_by_another(lock, path) == "in\n"
    assert list(tmp_path.iterdir()) == []  # neither the lock nor the folders made for it


@pytest.mark.parametrize("lock", [locked_folder, locked_name])
def test_a_process_that_is_killed_holds_up_nobody(tmp_path, lock):
    path = tmp_path / "en_de"
    with other(lock, path) as process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(BlockingIOError, match=rf"process {process.pid} on "), lock(path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.rglob("*lock"))  # the file is there, and means nothing
    with lock(path):
        assert str(os.getpid()) in said_by_another(lock, path)


def test_parts_of_one_process_do_not_hold_up_each_other(tmp_path):
    with locked_folder(tmp_path):
        with locked_folder(tmp_path):
            pass
        assert said_by_another(locked_folder, tmp_path) != "in\n"  # the outer one still holds
    assert said_by_another(locked_folder, tmp_path) == "in\n"


def test_what_is_in_the_folder_stays(tmp_path):
    with locked_folder(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("content")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    with caplog.at_level(logging.WARNING, "keras_luong"), locked_folder(tmp_path):
        pass
    assert f"{tmp_path} has no locks" in caplog.text


def test_no_link_is_followed(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), locked_folder(tmp_path):
        pass
    assert Path(tmp_path / "precious").read_text() == "content"
