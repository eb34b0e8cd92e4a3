import errno
import os
import subprocess
import sys
import time

import pytest

from keras_luong import folders
from keras_luong.folders import whole_file, whole_folder


def fill(folder):
    (folder / "file").write_text("content")
    (folder / "inner").mkdir()
    (folder / "inner" / "other").write_text("more")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_folder_appears_with_its_parents(tmp_path):
    path = tmp_path / "a" / "b" / "1"
    with whole_folder(path) as folder:
        fill(folder)
        assert not path.exists() and folder.parent == path.parent
    assert (path / "file").read_text() == "content"
    assert (path / "inner" / "other").read_text() == "more"
    assert names(path) == ["file", "inner"] and names(path.parent) == ["1"]


def test_while_it_is_filled_its_name_is_no_version(tmp_path):
    with whole_folder(tmp_path / "1") as folder:
        assert names(tmp_path) == [folder.name]
        assert folder.name.startswith(".") and not folder.name.isdecimal()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_inside_leaves_nothing(tmp_path, error):
    with pytest.raises(error, match="in the middle"), whole_folder(tmp_path / "1") as folder:
        fill(folder)
        raise error("in the middle")
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_of_the_disk_at_the_end_leaves_nothing(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "rename": (folders.Path, "rename")}[step], fail)
    with pytest.raises(OSError, match="no space left"), whole_folder(tmp_path / "1") as folder:
        fill(folder)
    assert names(tmp_path) == []


def test_an_error_that_names_no_file_names_the_folder(tmp_path):
    with pytest.raises(OSError) as raised, whole_folder(tmp_path / "1"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value) == f"[Errno 28] No space left on device: '{tmp_path / '1'}'"


def test_what_a_killed_process_left_goes_after_an_hour(tmp_path, caplog):
    """Only what is surely ours, and nobody writes into: the file in it counts, not the folder."""
    names_and_ages = {
        f".1.{'a' * 32}.unfinished": 3700,
        f".en_de.{'0' * 32}.unfinished": 3700,
        f".2.{'b' * 32}.unfinished": 3500,
        f".1.{'c' * 31}.unfinished": 9999,
        "1.unfinished": 9999,
    }
    for name, age in names_and_ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
        then = time.time() - age
        os.utime(tmp_path / name / "file", (then, then))
        os.utime(tmp_path / name, (then - 9999, then - 9999))
    gone = list(names_and_ages)[:2]
    with caplog.at_level("WARNING", "keras_luong"), whole_folder(tmp_path / "3") as folder:
        fill(folder)
    assert names(tmp_path) == sorted([*list(names_and_ages)[2:], "3"])
    assert [name in caplog.text for name in names_and_ages] == [
        name in gone for name in names_and_ages
    ]


def test_a_link_that_is_called_so_is_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other")
    link = tmp_path / f".1.{'a' * 32}.unfinished"
    link.symlink_to(tmp_path / "other")
    os.utime(link, (1, 1), follow_symlinks=False)
    with whole_folder(tmp_path / "1") as folder:
        fill(folder)
    assert names(tmp_path / "other") == ["file", "inner"]


# Without `keras_luong/__init__.py`, which would import Keras.
CRASH = """
import os, sys, types
package = types.ModuleType("keras_luong")
package.__path__ = [os.path.dirname(sys.argv[1])]
sys.modules["keras_luong"] = package
from keras_luong.folders import whole_file, whole_folder
with whole_folder(sys.argv[2]) as folder:
    (folder / "file").write_text("half")
    os._exit(9)
"""


def test_a_crash_leaves_nothing_under_the_name_and_the_next_attempt_works(tmp_path):
    path = tmp_path / "1"
    crashed = subprocess.run([sys.executable, "-c", CRASH, folders.__file__, str(path)])
    assert crashed.returncode == 9
    (left,) = names(tmp_path)
    assert left.startswith(".1.") and left.endswith(".unfinished")
    with whole_folder(path) as folder:
        fill(folder)
    assert names(path) == ["file", "inner"]


def make_file(path):
    path.write_text("of another")


def make_empty_folder(path):
    path.mkdir()


def make_full_folder(path):
    path.mkdir()
    (path / "file").write_text("of another")


@pytest.mark.parametrize("make", [make_file, make_empty_folder, make_full_folder])
def test_what_exists_is_refused_at_once(tmp_path, make):
    make(tmp_path / "1")
    entered = []
    with pytest.raises(FileExistsError, match="1' exists"), whole_folder(tmp_path / "1"):
        entered.append(True)
    assert not entered
    assert names(tmp_path) == ["1"]
    if make is make_full_folder:
        assert (tmp_path / "1" / "file").read_text() == "of another"


@pytest.mark.parametrize("make", [make_file, make_empty_folder, make_full_folder])
def test_what_appears_meanwhile_is_refused_and_stays(tmp_path, make):
    path = tmp_path / "1"
    with (
        pytest.raises(FileExistsError, match="1' appeared meanwhile"),
        whole_folder(path) as folder,
    ):
        fill(folder)
        make(path)
    assert names(tmp_path) == ["1"]
    content = path if path.is_file() else path / "file"
    assert not content.exists() or content.read_text() == "of another"
    assert make is make_empty_folder or content.exists()


def test_everything_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    path, events = tmp_path / "1", []
    fsync, rename = os.fsync, folders.Path.rename

    def note_flush(descriptor):
        events.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def note_rename(old, new):
        events.append("rename")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(folders.Path, "rename", note_rename)
    with whole_folder(path) as folder:
        fill(folder)
    parts = {part.stat().st_ino for part in (path, *path.rglob("*"))}
    assert len(parts) == 4  # the folder, the inner one and two files
    assert set(events[: events.index("rename")]) == parts
    assert events[events.index("rename") + 1 :] == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_cannot_flush_is_written_all_the_same(tmp_path, monkeypatch, number):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with whole_folder(tmp_path / "1") as folder:
        fill(folder)
    with whole_file(tmp_path / "file") as file:
        file.write_text("content")
    assert names(tmp_path) == ["1", "file"] and names(tmp_path / "1") == ["file", "inner"]


def test_a_disk_that_fails_is_no_such_file_system(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"), whole_folder(tmp_path / "1") as folder:
        fill(folder)
    with pytest.raises(OSError, match="input/output"), whole_file(tmp_path / "file") as file:
        file.write_text("content")
    assert names(tmp_path) == []


def test_a_file_gets_its_folders(tmp_path):
    with whole_file(tmp_path / "a" / "b" / "file") as file:
        file.write_text("content")
    assert names(tmp_path / "a" / "b") == ["file"]
