"""The files of examples/serving, against schemas and the stand-in for TF Serving."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config import model_server_config_pb2

from examples.serving import translate
from keras_luong_client import RestClient
from tests.client.model_server import ModelServer, listening

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "serving"
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
IMAGE = "tensorflow/serving:2.20.0"


def documents(path):
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def validate(document):
    """Against the schema of the newest Kubernetes there is one for; unknown fields are errors."""
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(document, version, strict=True)


ALL = {f"{path.stem} {one['kind']}": one for path in MANIFESTS for one in documents(path)}
PODS = {
    name: one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else one["spec"]
    for name, one in ALL.items()
    if one["kind"] in ("Deployment", "Pod")
}


def deployment():
    return next(one for one in ALL.values() if one["kind"] == "Deployment")


def container():
    (one,) = PODS["deployment Deployment"]["containers"]
    return one


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def served_models():
    text = (FOLDER / "config" / "models.config").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {one.name: one for one in config.model_config_list.config}


@pytest.fixture(scope="module")
def stand_in():
    server = ModelServer("dates", {1: ROOT / "saved_models" / "dates_demo" / "1"})
    with listening(server) as addresses:
        yield server, *addresses


@pytest.mark.parametrize("name", ALL)
def test_manifests_fit_the_schema_of_kubernetes(name):
    validate(ALL[name])


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "template", "spec", "automountServiceAccountTokens"),
        ("spec", "template", "spec", "containers", 0, "readyProbe"),
        ("spec", "template", "spec", "containers", 0, "securityContext", "readOnlyRoot"),
    ],
)
def test_the_schema_knows_a_wrong_field(path):
    wrong = json.loads(json.dumps(deployment()))
    *parents, field = path
    inner = wrong
    for key in parents:
        inner = inner[key]
    inner[field] = True
    with pytest.raises(kubernetes_validate.ValidationError, match=field):
        validate(wrong)


def test_kustomize_applies_every_manifest_but_the_upload():
    (kustomization,) = documents(FOLDER / "kustomization.yaml")
    listed = {FOLDER / path for path in kustomization["resources"]}
    assert listed == set(MANIFESTS) - {FOLDER / "kubernetes" / "upload.yaml"}
    (generated,) = kustomization["configMapGenerator"]
    files = {FOLDER / path for path in generated["files"]}
    assert files == set((FOLDER / "config").iterdir())
    (config,) = [one for one in PODS["deployment Deployment"]["volumes"] if "configMap" in one]
    assert config["configMap"]["name"] == generated["name"]


def test_what_kustomize_makes_fits_the_schema():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed here")
    command = ["kubectl", "kustomize", str(FOLDER)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kinds = []
    for document in yaml.safe_load_all(made):
        validate(document)
        kinds.append(document["kind"])
        assert "namespace" in document["metadata"] or document["kind"] == "Namespace"
    assert "ConfigMap" in kinds and "Deployment" in kinds


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_more_rights_than_they_need(name):
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for one in pod["containers"]:
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory", "ephemeral-storage"} == set(one["resources"]["limits"])
        assert {"cpu", "memory"} <= set(one["resources"]["requests"])


def test_selectors_meet_the_labels_of_the_pods():
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment()["spec"]["selector"]["matchLabels"],
        ALL["disruption_budget PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ALL["network_policy NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(one["spec"]["selector"] for one in documents(FOLDER / "kubernetes" / "services.yaml")),
    ]
    assert all(selector == labels for selector in selectors)
    assert (
        deployment()["spec"]["replicas"]
        > (ALL["disruption_budget PodDisruptionBudget"]["spec"]["minAvailable"])
    )


def test_services_and_probes_name_the_ports_of_the_container():
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    flags = flags_of(container()["args"])
    assert ports == {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])}
    for service in documents(FOLDER / "kubernetes" / "services.yaml"):
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        handler = container()[name].get("httpGet") or container()[name]["tcpSocket"]
        assert handler["port"] in ports


def flags_of(arguments):
    assert all(re.fullmatch(r"--[a-z_]+=\S+", one) for one in arguments)
    return dict(one.removeprefix("--").split("=", 1) for one in arguments)


def test_compose_and_kubernetes_start_the_server_alike():
    service = compose()["services"]["serving"]
    assert service["image"] == container()["image"] == IMAGE
    assert service["entrypoint"] == container()["command"]
    only_there = {"grpc_channel_arguments"}
    flags = flags_of(container()["args"])
    assert flags_of(service["command"]) == {
        name: value for name, value in flags.items() if name not in only_there
    }


def test_files_that_the_server_reads_are_mounted():
    flags, config = flags_of(container()["args"]), FOLDER / "config"
    for flag in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        path = Path(flags[flag])
        assert (config / path.name).is_file() and str(path.parent) == "/config"
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["target"]: volume for volume in compose()["services"]["serving"]["volumes"]}
    for one in served_models().values():
        assert any(one.base_path.startswith(f"{path}/") for path in mounts)
        assert one.base_path in volumes
    assert mounts["/config"]["readOnly"] and mounts["/models"]["readOnly"]
    assert volumes["/config"]["read_only"] and volumes["/models/dates"]["read_only"]


def test_the_model_config_labels_versions_that_are_served():
    (model,) = served_models().values()
    assert model.name == "dates" and model.model_platform == "tensorflow"
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) <= versions
    for version in versions:
        assert (ROOT / "saved_models" / "dates_demo" / str(version) / "saved_model.pb").is_file()


# `BatchingParameters` of TF Serving's session_bundle_config.proto, which its stubs leave out.
WRAPPED = {
    "max_batch_size": 1,
    "batch_timeout_micros": 2,
    "max_enqueued_batches": 3,
    "num_batch_threads": 4,
    "max_execution_batch_size": 9,
}


def batching_parameters():
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="serving_example",
        syntax="proto3",
        dependency=[wrappers.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    kinds = descriptor_pb2.FieldDescriptorProto
    optional, repeated = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    for name, number in WRAPPED.items():
        message.field.add(
            name=name,
            number=number,
            label=optional,
            type=kinds.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
        )
    message.field.add(
        name="enable_large_batch_splitting",
        number=8,
        label=optional,
        type=kinds.TYPE_MESSAGE,
        type_name=".google.protobuf.BoolValue",
    )
    message.field.add(name="allowed_batch_sizes", number=6, label=repeated, type=kinds.TYPE_INT64)
    message.field.add(
        name="pad_variable_length_inputs", number=7, label=optional, type=kinds.TYPE_BOOL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    kind = pool.FindMessageTypeByName("serving_example.BatchingParameters")
    text = (FOLDER / "config" / "batching.config").read_text(encoding="utf-8")
    return text_format.Parse(text, message_factory.GetMessageClass(kind)())


def test_the_batching_config_matches_signatures_and_clients():
    parameters = batching_parameters()
    assert parameters.max_batch_size.value == RestClient("http://localhost", "m").max_batch_size
    threads = int(flags_of(container()["args"])["tensorflow_intra_op_parallelism"])
    assert parameters.num_batch_threads.value == threads
    assert int(container()["resources"]["limits"]["cpu"]) == threads
    # Requests to `ids` are as wide as their longest row.
    assert parameters.pad_variable_length_inputs
    # The outputs of the parts would differ in width.
    assert not parameters.enable_large_batch_splitting.value
    assert not parameters.allowed_batch_sizes
    # As many requests of one text as fill a batch must be able to wait for it.
    for flag in ("grpc_max_threads", "rest_api_num_threads"):
        assert int(flags_of(container()["args"])[flag]) >= parameters.max_batch_size.value


def is_text(value):
    return isinstance(value, str)


def is_texts(value):
    return isinstance(value, list) and all(map(is_text, value))


# The fields of compose.yaml and their types, by the Compose Specification's pages on services and
# deployment. Whatever else appears in the file is an error until it is looked up there.
COMPOSE = {
    "image": is_text,
    "init": lambda value: value is True,
    "entrypoint": is_texts,
    "command": is_texts,
    "ports": is_texts,
    "user": is_text,
    "read_only": lambda value: value is True,
    "cap_drop": is_texts,
    "security_opt": is_texts,
    "tmpfs": is_texts,
    "volumes": lambda value: all(
        set(one) == {"type", "source", "target", "read_only"} and one["type"] == "bind"
        for one in value
    ),
    "deploy": lambda value: (
        set(value) == {"resources"}
        and set(value["resources"]) == {"limits"}
        and {key: type(one) for key, one in value["resources"]["limits"].items()}
        == {"cpus": str, "memory": str, "pids": int}
    ),
    "restart": lambda value: value in ("no", "always", "on-failure", "unless-stopped"),
    "stop_grace_period": lambda value: re.fullmatch(r"\d+s", value),
    "healthcheck": lambda value: (
        set(value) == {"test", "interval", "timeout", "retries", "start_period"}
        and is_texts(value["test"])
        and isinstance(value["retries"], int)
        and all(re.fullmatch(r"\d+s", value[key]) for key in ("interval", "timeout"))
    ),
}


def test_compose_has_known_fields_and_no_extra_rights():
    assert set(compose()) == {"name", "services"}
    (service,) = compose()["services"].values()
    for field, value in service.items():
        assert COMPOSE[field](value), field
    assert service["cap_drop"] == ["ALL"] and service["read_only"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "10001:10001"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for volume in service["volumes"]:
        source = re.sub(r"\$\{\w+:-(.*)\}", r"\1", volume["source"])
        assert (FOLDER / source).is_dir()


def test_docker_compose_takes_it():
    docker = shutil.which("docker")
    version = [docker, "compose", "version"]
    if docker is None or subprocess.run(version, capture_output=True).returncode:
        pytest.skip("docker compose is not installed here")
    command = [docker, "compose", "-f", str(FOLDER / "compose.yaml"), "config", "--quiet"]
    subprocess.run(command, check=True)


def health(url):
    """The exit code of compose's check of the health, with another port."""
    kind, *command = compose()["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD" and "/8501 " in command[-1]
    port = url.rpartition(":")[2]
    command[-1] = command[-1].replace("/8501 ", f"/{port} ")
    return subprocess.run(command, timeout=20, capture_output=True).returncode


def probe(url, name):
    """The status that a probe of the deployment gets."""
    try:
        with urllib.request.urlopen(url + container()[name]["httpGet"]["path"]) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.skipif(sys.platform != "linux", reason="the check runs in the image, on Linux")
def test_the_health_check_and_the_probes_tell_a_loaded_model(stand_in):
    server, url, _ = stand_in
    server.reset()
    assert health(url) == 0
    assert probe(url, "startupProbe") == probe(url, "readinessProbe") == 200
    server.states[1] = "LOADING"
    assert health(url) != 0
    assert probe(url, "startupProbe") == probe(url, "readinessProbe") == 404
    server.labels = None
    assert health(url) != 0 and probe(url, "readinessProbe") == 503
    server.reset()
    assert health("http://127.0.0.1:1") != 0


@pytest.mark.parametrize("place", [1, 2], ids=["rest", "grpc"])
def test_translate(stand_in, place, monkeypatch, capsys):
    stand_in[0].reset()
    given(monkeypatch, b"the third of May 2021\n\n3/5/21\r\n")
    translate.main([stand_in[place], "dates", "--label", "stable"])
    assert capsys.readouterr().out == "2021-05-03\n\n2021-05-03\n"


def given(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_line_gives_a_line_whatever_is_in_it(monkeypatch, capsys):
    @contextlib.contextmanager
    def client(*_):
        yield SimpleNamespace(translate=lambda texts: [f"{text}\n\u2028x\r" for text in texts])

    monkeypatch.setattr(translate, "client_of", client)
    given(monkeypatch, "a\rb\nc\u2028d\n\n".encode())
    translate.main(["http://127.0.0.1:1", "any"])
    assert capsys.readouterr().out == "a b  x\nc d  x\n  x\n"


def test_translate_says_what_failed(stand_in, monkeypatch):
    given(monkeypatch, b"a\n")
    with pytest.raises(SystemExit, match="NOT_FOUND"):
        translate.main([stand_in[1], "no_such_model"])
