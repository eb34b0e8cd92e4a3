import builtins
import os
import uuid
from pathlib import Path

import pytest

from keras_luong.folders import whole_file, whole_folder
from keras_luong.paths import RemotePath, local_copy, path_of, remove_tree


@pytest.fixture
def remote():
    """A folder in TensorFlow's file system in memory that no other test knows."""
    return path_of(f"ram://{uuid.uuid4().hex}/models")


def fill(folder):
    (folder / "file").write_text("content")
    (folder / "inner").mkdir()
    (folder / "inner" / "other").write_bytes(b"\x00more")


def names(folder):
    return sorted(one.name for one in folder.iterdir())


def test_a_local_path_is_a_path_and_home_is_known(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert path_of("~/en_de") == Path("/somewhere/en_de")
    assert path_of(Path("~/en_de")) == Path("/somewhere/en_de")
    assert path_of("file:///tmp/en_de") == Path("/tmp/en_de")
    for path in ("en_de", "a/~/b", "C:/en_de", "en:de"):
        assert path_of(path) == Path(path)


def test_names_and_parents_of_a_remote_path():
    path = path_of("ram://bucket/models/en_de.npz/")
    assert str(path) == os.fspath(path) == "ram://bucket/models/en_de.npz"
    assert (path.name, path.suffix) == ("en_de.npz", ".npz")
    assert str(path.parent.parent) == str(path.parent.parent.parent) == "ram://bucket"
    assert path.parent / "1" == path_of("ram://bucket/models/1")


def test_a_remote_folder_appears_when_it_is_full(remote):
    with whole_folder(remote / "1") as folder:
        fill(folder)
        assert not (remote / "1").exists()
    assert names(remote) == ["1"]
    assert (remote / "1" / "file").read_text() == "content"
    with local_copy(remote / "1") as copy:
        assert (copy / "inner" / "other").read_bytes() == b"\x00more"
    assert not copy.exists()
    with pytest.raises(FileExistsError, match="models/1' exists"), whole_folder(remote / "1"):
        pass


def test_a_failure_leaves_nothing_in_a_remote_folder(remote):
    with pytest.raises(OSError, match="full"), whole_folder(remote / "1") as folder:
        fill(folder)
        raise OSError("full")
    assert not remote.exists()


def test_the_last_file_is_copied_last_and_a_copy_that_fails_is_removed(remote, monkeypatch):
    copied, upload = [], RemotePath.upload

    def note(target, source):
        copied.append(target.name)
        upload(target, source)
        if len(copied) > 3:
            raise OSError("no connection")

    monkeypatch.setattr(RemotePath, "upload", note)
    with whole_folder(remote / "1", last="file") as folder:
        fill(folder)
    assert copied == ["inner", "other", "file"]
    with pytest.raises(OSError, match="no conn"), whole_folder(remote / "2", "file") as folder:
        fill(folder)
    assert names(remote) == ["1"]


def test_a_remote_file_takes_the_place_of_the_old_one(remote):
    for content in (b"old", b"new"):
        with whole_file(remote / "file") as file:
            file.write_bytes(content)
        assert (remote / "file").read_bytes() == content
    with pytest.raises(OSError, match="full"), whole_file(remote / "file") as file:
        file.write_bytes(b"half")
        raise OSError("full")
    assert names(remote) == ["file"] and (remote / "file").read_bytes() == b"new"
    remove_tree(remote)
    assert not remote.exists()
    with pytest.raises(FileNotFoundError):
        (remote / "file").read_bytes()


def test_a_scheme_without_a_file_system_raises_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no file system for nothing:// here. It has .*ram://"):
        path_of("nothing://bucket/en_de")
    with pytest.raises(ValueError, match="must have two slashes and be a `str`"):
        path_of(Path("ram://bucket/en_de"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_does_not_answer_raises_an_error_of_python(monkeypatch):
    import tensorflow as tf

    def fail(path):
        raise tf.errors.FailedPreconditionError(None, None, "no such host")

    monkeypatch.setattr(tf.io.gfile, "exists", fail)
    with pytest.raises(OSError, match="no such host"):
        path_of("gs://bucket/en_de")


def test_without_tensorflow_a_scheme_raises(monkeypatch):
    real = builtins.__import__

    def blocked(name, *arguments, **options):
        if name == "tensorflow":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ValueError, match="needs TensorFlow, which is not installed"):
        path_of("gs://bucket/en_de")
