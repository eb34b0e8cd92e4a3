"""The server's configuration, read by the server's own classes where they are installed."""

import json

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


def test_the_model_by_its_name_and_version(export, capsys):
    text_format = pytest.importorskip("google.protobuf.text_format")
    pb2 = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2",
        reason="tensorflow-serving-api is not installed",
    )
    models, _ = written(export)
    (config,) = text_format.Parse(models, pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (
        *("en_de", "/models/en_de", "tensorflow"),
    )
    assert list(config.model_version_policy.specific.versions) == [7]
    assert dict(config.version_labels) == {"stable": 7}
    command = capsys.readouterr().out
    assert f'-v "{export.parent}:/models/en_de:ro"' in command
    assert "--allow_version_labels_for_unavailable_models=true" in command


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


def test_a_folder_that_is_no_version(export, capsys):
    other = export.rename(export.with_name("latest"))
    assert main(["serve-config", str(other), "--out", str(other.parents[1] / "config")]) == 2
    assert "named by its version" in capsys.readouterr().err
