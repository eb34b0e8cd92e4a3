"""JSON that TF Serving takes and gives, by its documented rules, in both formats.

The bodies are written from https://www.tensorflow.org/tfx/serving/api_rest, and hold for the
stand-in and, if the environment names one, for TF Serving itself. No client stands in between: they
show others what to send, and say whether the stand-in is one.
"""

import json
import urllib.error
import urllib.request

import pytest

OUTPUTS = {
    "translation",
    "score",
    "attention_scores",
    "source_tokens",
    "target_tokens",
    "source_length",
    "target_length",
}
TOKENS = ["▁", "2", "0", "2", "1", "-", "0", "5", "-", "0", "3", "</s>"]


@pytest.fixture
def exchange(addresses):
    """Sends a body, and returns the status and the JSON that came back."""

    def send(path, body=None):
        data = body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(addresses[0] + path, data)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return send


def predict(exchange, body):
    return exchange("/v1/models/dates:predict", body)


def test_row_format_with_plain_values(exchange):
    status, answer = predict(exchange, '{"instances": ["the third of May 2021", "3/5/21"]}')
    assert status == 200 and list(answer) == ["predictions"]
    first, second = answer["predictions"]
    assert set(first) >= OUTPUTS
    assert first["translation"] == second["translation"] == "2021-05-03"
    assert first["target_tokens"] == TOKENS and first["target_length"] == 12
    # Rows are as wide as the longest of the batch.
    assert len(first["source_tokens"]) == len(second["source_tokens"]) >= 13
    assert second["source_tokens"][second["source_length"] :] == [""] * (
        len(second["source_tokens"]) - second["source_length"]
    )


def test_row_format_with_objects(exchange):
    body = """{
        "signature_name": "serving_default",
        "instances": [{"text": "the third of May 2021"}, {"text": ""}]
    }"""
    status, answer = predict(exchange, body)
    assert status == 200
    assert [row["translation"] for row in answer["predictions"]] == ["2021-05-03", ""]
    assert [row["target_length"] for row in answer["predictions"]] == [12, 0]
    assert answer["predictions"][1]["score"] == 0.0


def test_column_format_with_a_plain_list(exchange):
    status, answer = predict(exchange, '{"inputs": ["the third of May 2021", "3/5/21"]}')
    assert status == 200 and list(answer) == ["outputs"]
    outputs = answer["outputs"]
    assert set(outputs) >= OUTPUTS
    assert outputs["translation"] == ["2021-05-03", "2021-05-03"]
    assert outputs["target_tokens"] == [TOKENS, TOKENS]
    assert outputs["target_length"] == [12, 12]


def test_column_format_with_an_object(exchange):
    body = '{"signature_name": "serving_default", "inputs": {"text": ["3/5/21"]}}'
    status, answer = predict(exchange, body)
    assert status == 200 and answer["outputs"]["translation"] == ["2021-05-03"]


def test_both_formats_say_the_same(exchange):
    _, rows = predict(exchange, '{"instances": ["3/5/21", "Mon 3/5/21"]}')
    _, columns = predict(exchange, '{"inputs": ["3/5/21", "Mon 3/5/21"]}')
    for name, column in columns["outputs"].items():
        assert [row[name] for row in rows["predictions"]] == column


@pytest.mark.parametrize(
    "body",
    [
        # base64 of "3/5/21"
        '{"instances": [{"b64": "My81LzIx"}]}',
        '{"instances": [{"text": {"b64": "My81LzIx"}}]}',
        '{"instances": ["3/5/21"]}',
        '{"instances": ["\\u0033/5/21"]}',
    ],
)
def test_text_in_base64_and_escaped(exchange, body):
    status, answer = predict(exchange, body)
    assert status == 200
    assert [row["translation"] for row in answer["predictions"]] == ["2021-05-03"]


def test_base64_in_column_format(exchange):
    status, answer = predict(exchange, '{"inputs": {"text": [{"b64": "My81LzIx"}, "3/5/21"]}}')
    assert status == 200 and answer["outputs"]["translation"] == ["2021-05-03"] * 2


def test_bytes_that_are_not_utf_8_come_as_base64(exchange):
    # base64 of ff fe
    status, answer = predict(exchange, '{"instances": [{"b64": "//4="}]}')
    assert status == 200 and isinstance(answer["predictions"][0]["translation"], str)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "3/5/21",
        '["3/5/21"]',
        "{}",
        '{"instances": [], "signature_name": "serving_default"}',
        '{"instances": "3/5/21"}',
        '{"instances": ["3/5/21"], "inputs": ["3/5/21"]}',
        '{"instances": [3]}',
        '{"instances": [{"texts": "3/5/21"}]}',
        '{"instances": [{"text": "3/5/21", "alpha": 1.0}]}',
        '{"instances": [{"text": "3/5/21"}, "3/5/21"]}',
        '{"instances": ["3/5/21"], "signature_name": 3}',
        '{"instances": ["3/5/21"], "signature_name": "no_such_signature"}',
        '{"inputs": {"texts": ["3/5/21"]}}',
        '{"inputs": {"text": [["3/5/21"], "3/5/21"]}}',
        '{"inputs": [null]}',
    ],
)
def test_what_is_wrong_with_a_request_is_status_400_and_an_error(exchange, body):
    status, answer = predict(exchange, body)
    assert status == 400 and list(answer) == ["error"] and answer["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/no_such_model:predict", 404),
        ("/v1/models/dates/versions/77:predict", 404),
        ("/v1/models/dates/labels/no_such_label:predict", 400),
        ("/v1/models/dates:no_such_verb", 400),
    ],
)
def test_what_is_not_there(exchange, path, status):
    found, answer = exchange(path, '{"instances": ["3/5/21"]}')
    assert found == status and list(answer) == ["error"]


@pytest.mark.parametrize("where", ["", "/versions/1", "/labels/stable"])
def test_a_version_by_number_and_label(exchange, where):
    status, answer = exchange(f"/v1/models/dates{where}:predict", '{"instances": ["3/5/21"]}')
    assert status == 200 and answer["predictions"][0]["translation"] == "2021-05-03"


def test_the_status_of_a_version(exchange):
    status, answer = exchange("/v1/models/dates/versions/1")
    assert status == 200
    assert answer == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert exchange("/v1/models/no_such_model")[0] == 404


def test_the_metadata(exchange):
    status, answer = exchange("/v1/models/dates/versions/1/metadata")
    assert status == 200 and answer["model_spec"]["name"] == "dates"
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["text"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert set(signature["outputs"]) >= OUTPUTS


def test_a_server_that_cannot_answer_now_says_503(exchange, server):
    server.labels = None
    status, answer = exchange("/v1/models/dates/labels/stable:predict", '{"instances": ["a"]}')
    assert status == 503 and list(answer) == ["error"]
