"""The rooms of the package and who may enter, read from the source of every module."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_luong"
CLIENT = ROOT / "keras_luong_client"

# Each room imports only from the rooms above it.
ROOMS = ("functional", "layers", "search", "models", "text", "training", "serving")
# Those that speak `keras.ops`, and nothing but `keras.ops`.
NEUTRAL_ROOMS = ROOMS[: ROOMS.index("text")]
# Those that `import keras_luong` loads: these, and the losses, metrics and schedules that a saved
# model can name. What needs a backend is imported there when it is used.
LOADED_ROOMS = (*NEUTRAL_ROOMS, "training")
# Small files of the standard library, which every room may import. Where a path has a scheme,
# TensorFlow is imported in a function.
COMMON = (
    *("checked_numbers", "folders", "ids", "iterables", "locks", "paths"),
    *("stored_arrays", "stored_json", "stored_parts", "text_files"),
)
# The one file that knows the backends, in order to compile for each.
COMPILES = Path("models") / "compiled.py"

BACKENDS = {"tensorflow", "jax", "torch"}
NEUTRAL_LIBRARIES = {"keras", "numpy"} | sys.stdlib_module_names
FORBIDDEN = re.compile(r"(keras\.src|tensorflow\.keras|tf\.keras|tf_keras|tensorflow_addons)\b")


def module_name(path):
    """`keras_luong/layers/checks.py` -> `keras_luong.layers.checks`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree, package):
    """Yields `(imported name, runs when the module loads)`, from statements and `import_module`.

    `from a import b` yields `a.b`, since `b` may be a module. Relative ones start from `package`.
    """

    def visit(node, top):
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            yield from ((f"{base}.{alias.name}", top) for alias in node.names)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield importlib.util.resolve_name(first.value, package), top
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        never = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top and not later and not never)

    yield from visit(tree, True)


def imports_of(path):
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return list(imports(ast.parse(path.read_text(encoding="utf-8")), package))


def room_of(imported):
    """The room that `keras_luong.<room>...` names, `None` for other libraries."""
    parts = imported.split(".")
    return parts[1] if parts[0] == "keras_luong" and len(parts) > 1 else None


def wrong_rooms(room, imported_names):
    """What `room` imports of this package and may not."""
    allowed = {*COMMON, *ROOMS[: ROOMS.index(room) + 1]}
    return [
        name
        for name in imported_names
        if name.split(".")[0] == "keras_luong" and room_of(name) not in allowed
    ]


def forbidden_names(tree):
    """Private, legacy or retired API, imported or reached as an attribute."""
    names = [name for name, _ in imports(tree, "keras_luong")]
    names += [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return sorted({name for name in names if FORBIDDEN.match(name)})


def sources(*folders):
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


def modules(rooms):
    found = [path for path in sorted(PACKAGE.rglob("*.py")) if room_name(path) in rooms]
    return [pytest.param(path, id=path.relative_to(PACKAGE).as_posix()) for path in found]


def room_name(path):
    return Path(path.relative_to(PACKAGE).parts[0]).stem


def existing_rooms():
    children = [child for child in PACKAGE.iterdir() if child.is_dir() or child.suffix == ".py"]
    return {child.stem for child in children} - {"__init__", "__pycache__", *COMMON}


def test_every_module_stands_in_a_room():
    assert existing_rooms() <= set(ROOMS)


@pytest.mark.parametrize("path", modules(ROOMS))
def test_a_room_imports_from_rooms_above_it(path):
    assert wrong_rooms(room_name(path), [name for name, _ in imports_of(path)]) == []


@pytest.mark.parametrize("path", modules(COMMON))
def test_common_files_import_the_standard_library_only(path):
    allowed = {*sys.stdlib_module_names, *(f"keras_luong.{name}" for name in COMMON)}
    if path.stem == "stored_arrays":
        allowed.add("numpy")
    for name, at_module_level in imports_of(path):
        library = name.split(".")[0]
        known = library in allowed or name.rpartition(".")[0] in allowed
        assert known or (library == "tensorflow" and not at_module_level), name


@pytest.mark.parametrize("path", modules(NEUTRAL_ROOMS))
def test_neutral_rooms_import_keras_and_no_backend(path):
    may_compile = path.relative_to(PACKAGE) == COMPILES
    for name, at_module_level in imports_of(path):
        library = name.split(".")[0]
        if may_compile and library in BACKENDS:
            assert not at_module_level, f"{name} is imported at module level"
        else:
            assert library in {"keras_luong", *NEUTRAL_LIBRARIES}, name


@pytest.mark.parametrize("path", modules(LOADED_ROOMS))
def test_what_the_package_loads_imports_keras_and_no_backend(path):
    for name, at_module_level in imports_of(path):
        if at_module_level:
            assert name.split(".")[0] in {"keras_luong", *NEUTRAL_LIBRARIES}, name


def test_importing_the_package_loads_neutral_rooms_only():
    for name, at_module_level in imports_of(PACKAGE / "__init__.py"):
        room = room_of(name)
        if not at_module_level:
            continue
        if room is None:
            assert name.split(".")[0] in NEUTRAL_LIBRARIES, name
        else:
            assert room in {*COMMON, *LOADED_ROOMS}, name


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in CLIENT.glob("*.py")])
def test_the_client_imports_the_standard_library_only(path):
    allowed = {"keras_luong_client", *sys.stdlib_module_names}
    if path.name == "grpc_client.py":
        allowed |= {"google", "grpc", "tensorflow", "tensorflow_serving"}  # the extra
    found = list(imports(ast.parse(path.read_text(encoding="utf-8")), "keras_luong_client"))
    assert {name.split(".")[0] for name, _ in found} <= allowed
    for name, at_module_level in found:
        assert not (at_module_level and name.startswith("keras_luong_client.grpc_client")), name


# They run in an environment of their own, on the retired API that they measure.
PEERS = sorted((ROOT / "benchmarks" / "peers").glob("*_tfa.py"))


@pytest.mark.parametrize(
    "path",
    sources("keras_luong", "keras_luong_cli", "keras_luong_client", "examples", "benchmarks"),
)
def test_only_public_api_of_keras(path):
    assert path in PEERS or forbidden_names(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", sources("keras_luong_cli", "examples", "benchmarks"))
def test_examples_import_what_a_room_exports_not_its_modules(path):
    for name, _ in imports(ast.parse(path.read_text(encoding="utf-8")), "examples"):
        library, *parts = name.split(".")
        if library == "keras_luong":
            assert len(parts) <= 2, name
            is_file = PACKAGE.joinpath(*parts).with_suffix(".py").exists()
            assert not (len(parts) == 2 and is_file), name


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("layers", "from keras_luong.models import Seq2Seq", ["keras_luong.models.Seq2Seq"]),
        ("layers", "from keras_luong import models", ["keras_luong.models"]),
        ("layers", "import keras_luong", ["keras_luong"]),
        ("layers", "from ..search import greedy", ["keras_luong.search.greedy"]),
        ("search", "def f():\n    import keras_luong.text.pipeline", ["keras_luong.text.pipeline"]),
        ("text", "importlib.import_module('keras_luong.serving')", ["keras_luong.serving"]),
        ("layers", "from .checks import rank\nfrom .. import functional, ids\nimport keras", []),
        ("serving", "from keras_luong.training import MaskedCrossentropy", []),
    ],
)
def test_the_reader_sees_an_import_of_a_lower_room(room, source, found):
    names = [name for name, _ in imports(ast.parse(source), f"keras_luong.{room}")]
    assert wrong_rooms(room, names) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from keras.src import backend", ["keras.src.backend"]),
        ("import keras.src.ops as ops", ["keras.src.ops"]),
        ("from tensorflow import keras", ["tensorflow.keras"]),
        ("layer = tf.keras.layers.LSTM", ["tf.keras", "tf.keras.layers", "tf.keras.layers.LSTM"]),
        ("import tensorflow_addons as tfa", ["tensorflow_addons"]),
        ("import keras\nimport tensorflow as tf\ntf.keras_tensor", []),
    ],
)
def test_the_reader_sees_private_and_legacy_api(source, found):
    assert forbidden_names(ast.parse(source)) == found


@pytest.mark.parametrize(
    ("source", "runs"),
    [
        ("import jax", True),
        ("if True:\n    import jax", True),
        ("class A:\n    import jax", True),
        ("def f():\n    import jax", False),
        ("if TYPE_CHECKING:\n    import jax", False),
    ],
)
def test_the_reader_tells_what_runs_when_the_module_loads(source, runs):
    assert list(imports(ast.parse(source), "keras_luong")) == [("jax", runs)]


def pictured_rooms(text):
    """The entries one level below `keras_luong/` in a document's picture, `None` without one."""
    picture = re.search(r"^( *)keras_luong/ *\n((?:\1 +\S.*\n)+)", text, re.MULTILINE)
    if picture is None:
        return None
    lines = picture[2].splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    entries = [line.split()[0] for line in lines if len(line) - len(line.lstrip()) == indent]
    return {entry.removesuffix("/").removesuffix(".py") for entry in entries} - {
        "__init__",
        *COMMON,
    }


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_the_picture_of_the_rooms_is_true(document):
    rooms = pictured_rooms((ROOT / document).read_text(encoding="utf-8"))
    if document == "CONTRIBUTING.md":
        assert rooms is not None
    assert rooms is None or rooms == existing_rooms()


# Luong's dot score on one query and two source states: the logits are (ln 3, 0), so the weights are
# (3/4, 1/4) and the context is (3/4 ln 3, 1/4).
WITHOUT_TENSORFLOW = """
import sys

BLOCKED, REGISTERED = (argument.split(",") for argument in sys.argv[1:])

class Without:  # a finder of modules that finds all but the blocked ones
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        blocked = name.split(".")[0] in BLOCKED
        return None if blocked else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

import keras
import numpy as np
import keras_luong
from keras_luong import *

# A saved model can name any of them.
missing = [name for name in REGISTERED if keras.saving.get_registered_object(name) is None]
assert not missing, missing
layer = keras_luong.LuongAttention(score_mode="dot")
query = np.array([[[1.0, 0.0]]], "float32")
value = np.array([[[np.log(3.0), 0.0], [0.0, 1.0]]], "float32")
context, scores = layer(query, value, return_attention_scores=True)
context, scores = map(keras.ops.convert_to_numpy, (context, scores))
np.testing.assert_allclose(scores, [[[0.75, 0.25]]], atol=1e-6)
np.testing.assert_allclose(context, [[[0.75 * np.log(3.0), 0.25]]], atol=1e-6)
loaded = [name for name in BLOCKED if name in sys.modules]
assert not loaded, loaded
print("numbers from", keras.config.backend())
"""


def registered_names():
    """What Keras knows the registered classes of the package by, joined by commas."""
    decorator = re.compile(
        r"^@keras\.saving\.register_keras_serializable.*\nclass (\w+)", re.MULTILINE
    )
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    names = [name for source in sources for name in decorator.findall(source)]
    assert {"MaskedCrossentropy", "Halving", "Seq2Seq"} <= set(names)
    return ",".join(f"keras_luong>{name}" for name in names)


@pytest.mark.parametrize("room", ["", *(f".{room}" for room in LOADED_ROOMS)])
def test_dir_shows_public_names_and_sub_packages_only(room):
    package = importlib.import_module(f"keras_luong{room}")
    shown = set(dir(package))
    assert shown >= set(package.__all__)
    if room:
        assert shown == set(package.__all__)
    else:
        assert set(ROOMS) < shown
        assert not shown & {"Any", "importlib", "ids", "folders"}
        assert not [name for name in shown if name.startswith("_")]


def test_what_dir_shows_loads_when_it_is_asked_for():
    package = importlib.import_module("keras_luong")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed here")
    for name in dir(package):
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_package_works_where_tensorflow_is_not(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here")
    blocked = {"tensorflow", "tensorflow_text", "tensorboard", "sentencepiece", "matplotlib"}
    blocked |= BACKENDS - {backend}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, ",".join(sorted(blocked)), registered_names()],
        cwd=tmp_path,
        env=os.environ
        | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"numbers from {backend}\n")
