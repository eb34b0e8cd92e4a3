import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_luong.stored_arrays import array_archive, check_finite, read_array
from tests.hostile_files import compressed, flipped, npy, truncated, with_arrays, with_members

ARRAYS = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array([1, 2])}


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    return tmp_path / "a.npz"


def read(file):
    with array_archive(file, ARRAYS) as archive:
        return archive.read("a", "f", (None, 3)), archive.read("b", "iu", (2,))


def test_what_savez_wrote_is_read(file):
    for here, there in zip(read(file), ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(here, there)
        assert here.dtype == there.dtype
    with_arrays(file, a=np.asfortranarray(ARRAYS["a"]))
    np.testing.assert_array_equal(read(file)[0], ARRAYS["a"])


HUGE = (10**9, 3)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (truncated, "it: File is not a zip file"),
        (lambda file: file.write_bytes(b""), "it: File is not a zip file"),
        (lambda file: file.write_bytes(b"PK\5\6" + b"\0" * 18), r"missing: \['a.npy', 'b.npy'\]"),
        (lambda file: flipped(file, 200), "`a`: .*CRC-32|`a`: .*BadZipFile"),
        (compressed, r"its parts must not be compressed. Received: \['a.npy'"),
        (lambda file: with_arrays(file, b=None), r"Received: 1; missing: \['b.npy'\]; unknown: "),
        (lambda file: with_arrays(file, c=np.ones(2)), r"Received: 3; missing: .*\['c.npy'\]"),
        (lambda file: with_arrays(file, a=np.ones((2, 4), "f")), r"shape .*Received: \(2, 4\)"),
        (lambda file: with_arrays(file, a=np.ones(3, "f")), r"`a`: .*shape .*Received: \(3,\)"),
        (lambda file: with_arrays(file, a=np.ones((2, 3), int)), "must be floats. Received: int64"),
        (lambda file: with_arrays(file, b=np.array([1.5, 2])), "`b`: its numbers must be integers"),
        (lambda file: with_arrays(file, b=np.array(["x", "y"])), "`b`: its numbers must be int"),
        (lambda file: with_members(file, a__npy=b""), "`a`: it has no header of an array"),
        (lambda file: with_members(file, a__npy=npy(HUGE)), "declares 12000000000 bytes of num"),
        (lambda file: with_members(file, a__npy=npy((-1, 3))), r"shape .*Received: \(-1, 3\)"),
        (lambda file: with_members(file, a__npy=npy((2, 3), "|O", b"x" * 48)), "Received: object"),
        (lambda file: with_members(file, a__npy=npy((2, 3), "|S999999999")), r"Received: \|S99"),
        (lambda file: with_members(file, a__npy=npy(("(" * 999,))), "no header of an array"),
        (lambda file: with_members(file, a__npy=b"\x93NUMPY\7\0" + b"\xff" * 90), "no header"),
    ],
)
def test_one_error_names_file_array_and_fault(file, attack, message):
    attack(file)
    with pytest.raises(ValueError, match=f"a.npz' cannot be read: .*{message}"):
        read(file)


def test_members_that_overlap_are_not_read(file):
    """Many names for the same bytes: what takes little on the disk and much in memory."""
    np.savez(file, a=np.zeros((1000, 3), "float32"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.filelist += 2 * archive.filelist
        archive.comment = b"so that it is written"
    with pytest.raises(ValueError, match="its parts declare .* bytes, and it has"):
        read(file)


def test_no_memory_is_taken_for_what_is_declared(file):
    with_members(file, a__npy=npy((10**8, 3)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="header declares"):
        read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7  # of 1.2 * 10^9


def test_an_array_of_its_own(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, ARRAYS["b"])
    np.testing.assert_array_equal(read_array(file, "iu", (None,)), ARRAYS["b"])
    for attack, message in ((truncated, "header"), (lambda one: one.write_bytes(b"x"), "header")):
        attack(file)
        with pytest.raises(ValueError, match=f"a.npy' cannot be read: the array: .*{message}"):
            read_array(file, "iu", (None,))


def test_numbers_that_are_none():
    for good in ([1.0, 2.0], [1, 2]):
        check_finite("here", np.array(good))
    check_finite("here", np.array([np.inf]), may_be_infinite=True)
    with pytest.raises(ValueError, match="here must hold finite numbers. Received: 1 others of 2"):
        check_finite("here", np.array([np.inf, 1.0]))
    with pytest.raises(ValueError, match="here must hold no NaN. Received: 2 others of 2"):
        check_finite("here", np.array([np.nan] * 2, "float16"), may_be_infinite=True)
