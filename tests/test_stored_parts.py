import hashlib
import shutil
import subprocess
import tracemalloc

import pytest

from keras_luong.stored_parts import SUMS, check_sums, local_parts, part_of, read_sums, write_sums
from tests.hostile_files import flipped, linked, truncated


@pytest.fixture
def folder(tmp_path):
    (folder := tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    write_sums(folder)
    return folder


def test_the_sums_are_those_of_sha256sum(folder):
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in "ab"}
    assert read_sums(folder, ("a", "b")) == expected
    check_sums(folder, {name: folder / name for name in "ab"})
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, check=True, capture_output=True)


def test_a_file_that_is_another_is_named(folder):
    flipped(folder / "b")
    with pytest.raises(ValueError, match="folder/b' is not what was written there: its SHA-256"):
        check_sums(folder, {name: folder / name for name in "ab"})


@pytest.mark.parametrize(
    "attack",
    [
        truncated,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff" * 99),
        lambda file: file.write_text(file.read_text() * 2 + "x"),
        lambda file: file.write_text(file.read_text().splitlines()[0]),
        lambda file: file.write_text(file.read_text() + "0" * 64 + "  ../c\n"),
        lambda file: file.write_text(file.read_text() + "x" * 100_000),
    ],
)
def test_sums_that_are_none(folder, attack):
    attack(folder / SUMS)
    with pytest.raises(ValueError, match="SHA256SUMS' must hold the SHA-256 of a, b"):
        read_sums(folder, ("a", "b"))


def test_a_link_within_the_folder_is_followed_and_no_other(folder, tmp_path):
    (folder / "c").symlink_to("a")
    with local_parts(folder, ("a", "c")) as parts:
        assert parts["c"].read_text() == "a"
    linked(folder / "b", tmp_path / "secret")
    with pytest.raises(ValueError, match="folder/b' must be a file of its folder. It is a link"):
        part_of(folder, "b")
    (tmp_path / "link").symlink_to(folder)  # of the folder itself the user gave the name
    assert part_of(tmp_path / "link", "a").read_text() == "a"


def test_what_is_no_file(folder):
    (folder / "d").mkdir()
    (folder / "loop").symlink_to("loop")
    for name in ("d", "nothing", "loop"):
        with pytest.raises(ValueError, match=f"folder' must hold a file '{name}'"):
            part_of(folder, name)


def test_memory_does_not_grow_with_the_file(folder):
    with (folder / "a").open("wb") as file:
        file.truncate(30 * 2**20)
    write_sums_without_sums(folder)
    tracemalloc.start()
    check_sums(folder, {"a": folder / "a"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


def write_sums_without_sums(folder):
    for name in ("b", SUMS):
        (folder / name).unlink()
    write_sums(folder)
