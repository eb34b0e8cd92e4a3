"""Servers for the clients: a stand-in here, or a real one, if the environment names one."""

import os
from pathlib import Path

import pytest

from keras_luong_client import GrpcClient, RestClient
from tests.client.model_server import ModelServer, listening

DEMO = Path(__file__).parents[2] / "saved_models" / "dates_demo" / "1"
MODEL = "dates"
# A running TF Serving with saved_models/dates_demo as model `dates`, whose version 1 is `stable`.
REAL_URL, REAL_TARGET = os.environ.get("TF_SERVING_URL"), os.environ.get("TF_SERVING_GRPC")
IS_REAL = bool(REAL_URL and REAL_TARGET)


@pytest.fixture(scope="session")
def stand_in():
    """A `ModelServer` with the committed model twice, as versions 1 and 3, and where it listens."""
    server = ModelServer(MODEL, {1: DEMO, 3: DEMO})
    with listening(server) as addresses:
        yield server, *addresses


@pytest.fixture
def server(stand_in):
    """The stand-in, for tests that do something to it; they are not for a real server."""
    if IS_REAL:
        pytest.skip("a real server cannot be told to fail")
    stand_in[0].reset()
    yield stand_in[0]
    stand_in[0].reset()


@pytest.fixture
def addresses(request):
    """Where the REST and the gRPC interface are."""
    if IS_REAL:
        return REAL_URL, REAL_TARGET
    return request.getfixturevalue("stand_in")[1:]


@pytest.fixture(params=["rest", "grpc"])
def connect(request, addresses):
    """Makes a client of one protocol or the other, for the model at hand unless told otherwise."""
    clients = []

    def make(model=MODEL, **options):
        kind, address = {
            "rest": (RestClient, addresses[0]),
            "grpc": (GrpcClient, addresses[1]),
        }[request.param]
        clients.append(kind(address, model, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
