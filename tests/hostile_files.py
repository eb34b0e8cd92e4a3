"""What somebody may have put in the place of a file: the attacks that more than one test makes."""

import io
import json
import zipfile

import numpy as np

DEEP = "[" * 100_000 + "]" * 100_000


def edited(path, change):
    """Changes a JSON file: `change` returns what to write, or changes what it is given."""
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def with_arrays(path, **arrays):
    """Writes an `.npz` file anew, with arrays exchanged, or left out where one is `None`."""
    with np.load(path) as stored:
        there = dict(stored)
    np.savez(path, **{name: one for name, one in (there | arrays).items() if one is not None})


def npy(shape, descr="<f4", content=b""):
    """An array's file whose header declares a shape."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def with_members(path, **members):
    """Writes a zip archive anew, with some members exchanged, as bytes."""
    with zipfile.ZipFile(path) as archive:
        there = {name: archive.read(name) for name in archive.namelist()}
    names = {name.replace("__", "."): content for name, content in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (there | names).items():
            archive.writestr(name, content)


def compressed(path):
    """Writes a zip archive anew, compressed."""
    with zipfile.ZipFile(path) as archive:
        there = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in there.items():
            archive.writestr(name, content)


def truncated(path):
    """Cuts a file in its middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path, place=-1):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def linked(path, target):
    """Puts a link to another file in the place of one."""
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)
