"""Clients of a translator that TF Serving serves.

This package needs the standard library alone, and `GrpcClient` the extra `serving`. It stands
beside `keras_luong`, not in it, for `import keras_luong` loads Keras and its backend: seconds and
hundreds of megabytes that a program which only asks a server has no use for. Such a program
installs it with `pip install --no-deps keras-luong`.
"""

from typing import TYPE_CHECKING, Any

from keras_luong_client.answers import IdTranslation, ScoredTranslation, Translation
from keras_luong_client.client import ServingClient
from keras_luong_client.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from keras_luong_client.rest_client import RestClient
from keras_luong_client.retrying import RetryPolicy

if TYPE_CHECKING:
    from keras_luong_client.grpc_client import GrpcClient

__all__ = [
    "DeadlineError",
    "GrpcClient",
    "IdTranslation",
    "InvalidRequestError",
    "NotFoundError",
    "RestClient",
    "RetryPolicy",
    "ScoredTranslation",
    "ServingClient",
    "ServingError",
    "Translation",
    "UnavailableError",
]


def __getattr__(name: str) -> Any:
    # The stubs import TensorFlow, so they are imported when they are first asked for.
    if name == "GrpcClient":
        from keras_luong_client.grpc_client import GrpcClient

        return GrpcClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
