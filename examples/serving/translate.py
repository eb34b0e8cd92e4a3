"""Translates the lines of standard input with a model that TF Serving serves.

    echo "the third of May 2021" | python examples/serving/translate.py http://localhost:8501 dates

A target without http is a gRPC one, such as localhost:8500, and needs the extra `serving`.
"""

import argparse
import sys

from keras_luong_cli import without_import_notes
from keras_luong_cli.lines import one_line
from keras_luong_cli.option_types import above_zero
from keras_luong_client import RestClient, ServingClient, ServingError


def client_of(target: str, model: str, label: str | None, timeout: float) -> ServingClient:
    if target.startswith(("http://", "https://")):
        return RestClient(target, model, label=label, timeout=timeout)
    with without_import_notes():  # gRPC's stubs import TensorFlow
        from keras_luong_client import GrpcClient
    return GrpcClient(target, model, label=label, timeout=timeout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", help="http://host:8501, or host:8500 for gRPC")
    parser.add_argument("model", help="the name under which the model is served")
    parser.add_argument("--label", help="the label of the version to ask, such as stable or canary")
    parser.add_argument("--timeout", type=above_zero, default=30.0, help="seconds for each request")
    options = parser.parse_args(arguments)
    try:
        # Of bytes, which end at \n alone: those of text end at \r too.
        texts = [line.rstrip(b"\r\n").decode() for line in sys.stdin.buffer]
        with client_of(options.target, options.model, options.label, options.timeout) as client:
            for translation in client.translate(texts):
                print(one_line(translation))
    except (ImportError, ServingError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
