"""The server's configuration, read by the server's own classes where they are installed."""

import csv
import json
import os
import subprocess

import pytest

from keras_luong_cli import main


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "models" / "en_de" / "7"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


def write_card(export, *shapes):
    inputs = {f"input_{i}": {"dtype": "int32", "shape": shape} for i, shape in enumerate(shapes)}
    card = {"signatures": {"serving_default": {"inputs": inputs}}}
    (export / "assets.extra" / "model_card.json").write_text(json.dumps(card))


def written(export, *arguments):
    out = export.parents[1] / "config"
    assert main(["serve-config", str(export), "--out", str(out), *arguments]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["batching.config", "models.config"]
    return (out / "models.config").read_text(), (out / "batching.config").read_text()


NAMES = ["en_de", "a \"b\" 'c'\n}}\n$(touch made) `touch made`; \\ , =#é"]


@pytest.mark.parametrize("name", NAMES)
def test_the_model_by_its_name_and_version(export, name):
    text_format = pytest.importorskip("google.protobuf.text_format")
    pb2 = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2",
        reason="tensorflow-serving-api is not installed",
    )
    models, _ = written(export, "--name", name)
    (config,) = text_format.Parse(models, pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (
        *(name, f"/models/{name}", "tensorflow"),
    )
    assert list(config.model_version_policy.specific.versions) == [7]
    assert dict(config.version_labels) == {"stable": 7}


@pytest.fixture
def docker(tmp_path):
    """In the place of Docker: it says each word that it was given, and a NUL behind it."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    program.chmod(0o755)
    return program


def run_of(command, docker):
    path = f"{docker.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        *(["sh", "-c", command],), env={"PATH": path}, cwd=docker.parent, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_mounts_any_folder_and_serves_this_machine_only(export, docker, capsys, name):
    models = export.parent.rename(export.parents[1] / f"{name}: x")
    written(models / "7", "--name", name)
    words = run_of(capsys.readouterr().out, docker)
    assert [path.name for path in docker.parent.iterdir()] == ["docker"]  # nothing was executed
    config = models.parent / "config"
    mounts = [next(csv.reader([words[i + 1]])) for i, one in enumerate(words) if one == "--mount"]
    assert mounts == [
        ["type=bind", f"source={models}", f"target=/models/{name}", "readonly"],
        ["type=bind", f"source={config}", "target=/config", "readonly"],
    ]
    assert words[:6] == ["run", "--rm", "-p", "127.0.0.1:8500:8500", "-p", "127.0.0.1:8501:8501"]
    assert words[10:12] == [
        "tensorflow/serving:2.20.0",
        "--model_config_file=/config/models.config",
    ]


@pytest.mark.parametrize("host, shown", [("0.0.0.0", "0.0.0.0"), ("::1", "[::1]")])
def test_the_command_serves_another_address_if_asked_to(export, docker, capsys, host, shown):
    written(export, "--host", host)
    assert run_of(capsys.readouterr().out, docker)[3] == f"{shown}:8500:8500"


def test_a_card_says_nothing_but_shapes(export, capsys):
    """It may be someone else's: a line break in a name stays in its comment."""
    write_card(export, [None, None])
    card = export / "assets.extra" / "model_card.json"
    card.write_text(card.read_text().replace("input_0", "a\\nmax_batch_size: 9"))
    _, batching = written(export)
    assert '# The width of "a\\012max_batch_size: 9", of signature "serving_default"' in batching


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"signatures": {"a": {}}}', "[" * 100_000])
def test_a_card_of_another_shape_is_named(export, capsys, text):
    write_card(export)
    (export / "assets.extra" / "model_card.json").write_text(text)
    assert main(["serve-config", str(export), "--out", str(export.parents[1] / "config")]) == 2
    assert "model_card.json' is no model card" in capsys.readouterr().err
    assert not (export.parents[1] / "config").exists()


@pytest.mark.parametrize(
    "shapes, pads",
    [([[None]], "false"), ([[None, 3]], "false"), ([[None], [None, None]], "true"), (None, "true")],
)
def test_padding_where_a_width_varies(export, shapes, pads):
    if shapes is not None:
        write_card(export, *shapes)
    _, batching = written(export)
    assert f"\npad_variable_length_inputs: {pads}\n" in batching


def test_sizes(export):
    arguments = ["--max-batch-size", "8", "--timeout-micros", "9", "--threads", "3"]
    models, batching = written(export, "--name", "other", *arguments)
    assert '    name: "other"\n    base_path: "/models/other"\n' in models
    assert "\nmax_batch_size { value: 8 }\nbatch_timeout_micros { value: 9 }\n" in batching
    assert "\nnum_batch_threads { value: 3 }\n" in batching


def test_nothing_is_overwritten(export, capsys):
    written(export)
    assert main(["serve-config", str(export), "--out", str(export.parents[1] / "config")]) == 2
    assert "models.config' exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["latest", "0", "007", "٣", "1" * 19])
def test_a_folder_that_is_no_version(export, capsys, name):
    other = export.rename(export.with_name(name))
    assert main(["serve-config", str(other), "--out", str(other.parents[1] / "config")]) == 2
    assert "named by its version, an integer from 1 without" in capsys.readouterr().err


def test_a_full_disk_leaves_no_file(export, capsys, small_disk):
    """The second file finds no room, and the first goes as well."""
    out = export.parents[1] / "config"
    with small_disk(350):
        assert main(["serve-config", str(export), "--out", str(out)]) == 2
    assert f"File too large: '{out / 'batching.config'}'" in capsys.readouterr().err
    assert list(out.iterdir()) == []
