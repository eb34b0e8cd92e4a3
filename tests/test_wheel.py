"""The wheel, installed with its dependencies in a fresh environment, far from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[1]

# Every module, so that an import of something that is not a declared dependency comes to light.
IMPORT_ALL = """
import importlib, importlib.metadata, json, pkgutil
import keras_luong, keras_luong_cli, keras_luong_client

names = [
    module.name
    for package in (keras_luong, keras_luong_cli, keras_luong_client)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
names = [name for name in names if not name.endswith("__main__")]  # it would run the command
names.remove("keras_luong_client.grpc_client")  # it needs an extra
names += ["keras_luong", "keras_luong_cli", "keras_luong_client"]
files = {name: importlib.import_module(name).__file__ for name in names}
versions = [keras_luong.__version__, importlib.metadata.version("keras-luong")]
print(json.dumps({"files": files, "versions": versions}))
"""


def run(*command, cwd):
    """Runs a command as a user would, with nothing of this checkout in the environment."""
    mine = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in mine}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    run(*install, wheel, cwd=folder)
    yield folder
    shutil.rmtree(folder)  # 2 GB: more than pytest should keep of its last three runs


def test_the_source_archive_holds_what_its_tests_need(tmp_path):
    run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    patterns = ("docs/*.md", "examples/**/*.py", "tests/**/*.py", "saved_models/dates_demo/1/**/*")
    needed = {
        path.relative_to(ROOT).as_posix()
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file()
    }
    assert len(needed) > 100 and needed <= names
    assert {"Makefile", "README.md", ".ci/run", ".ci/skips", "benchmarks/RESULTS.md"} <= names


def test_holds_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = {
        path.relative_to(ROOT).as_posix()
        for package in ("keras_luong", "keras_luong_cli", "keras_luong_client")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == packages
    assert "keras_luong/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_every_module_imports_from_the_installed_wheel(environment, tmp_path):
    output = run(environment / "bin" / "python", "-c", IMPORT_ALL, cwd=tmp_path)
    found = json.loads(output.splitlines()[-1])
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert found["versions"] == [declared, declared]
    for name, file in found["files"].items():
        assert Path(file).resolve().is_relative_to(environment.resolve()), (name, file)


def test_the_installed_dependencies_agree(environment, tmp_path):
    output = run(environment / "bin" / "python", "-m", "pip", "check", cwd=tmp_path)
    assert "No broken requirements found" in output
