"""What the clients read from an export, against what `Translator` itself says."""

import numpy as np
import pytest

from keras_luong import BeamSearch
from keras_luong.ids import END_ID
from keras_luong_client import GrpcClient, RestClient
from tests.client.model_server import ModelServer, listening
from tests.serving.numbers import tokenizer_of_numbers, untrained

TEXTS = ["one", "", "four three two one", "two two", "犬 two", " ".join(["one"] * 30)]
BEAM = BeamSearch(3, n_best=3)


@pytest.fixture(scope="module")
def translator():
    return untrained(tokenizer_of_numbers())


@pytest.fixture(scope="module")
def translations(translator):
    return translator.n_best(TEXTS, BEAM)


@pytest.fixture(scope="module")
def served(translator, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "numbers" / "1"
    translator.export(path, BEAM)
    server = ModelServer("numbers", {1: path})
    with listening(server) as addresses:
        yield server, *addresses


@pytest.fixture(params=[(RestClient, 1), (GrpcClient, 2)], ids=["rest", "grpc"])
def client(request, served):
    kind, place = request.param
    # Two rows a request: the batches are others than the translator's.
    with kind(served[place], "numbers", max_batch_size=2) as client:
        yield client


def assert_same(answer, expected):
    assert answer.source_tokens == expected.source_tokens
    assert answer.target_tokens == expected.target_tokens
    np.testing.assert_allclose(answer.log_prob, expected.log_prob, atol=1e-5)
    shape = len(expected.target_tokens), len(expected.source_tokens)
    scores = np.reshape(answer.attention_scores, shape)
    np.testing.assert_allclose(scores, expected.attention_scores, atol=1e-5)


def assert_same_translation(answer, expected):
    assert_same(answer, expected)
    assert answer.text == expected.text
    np.testing.assert_allclose(answer.score, expected.score, atol=1e-5)


def test_translations(client, translations):
    for answer, (best, *_) in zip(client.explain(TEXTS), translations, strict=True):
        assert_same_translation(answer, best)
    assert client.translate(TEXTS) == [best.text for best, *_ in translations]


def test_the_n_best(client, translations):
    for answers, expected in zip(client.n_best(TEXTS, alpha=0.0), translations, strict=True):
        for answer, one in zip(answers, expected, strict=True):
            assert_same_translation(answer, one)


def test_scores(client, translator):
    targets = ["eins", "", "vier drei zwei", "zwei", "eins zwei", "eins"]
    expected = translator.score(TEXTS, targets)
    for answer, one in zip(client.score(TEXTS, targets), expected, strict=True):
        assert_same(answer, one)
        np.testing.assert_allclose(answer.token_log_probs, one.token_log_probs, atol=1e-5)


def test_ids(client, translator, translations, served):
    rows = translator.source_tokenizer.tokenize(TEXTS[:5]).to_list()
    expected = [best for best, *_ in translations[:5]]
    assert_same_ids(client.translate_ids(rows), expected)
    # In a batch with a wider request, whose rows the server fills up.
    served[0].batch_mates = {"source_ids": [[4, 5, 4, 5, 4, 5, 4, END_ID]]}
    try:
        assert_same_ids(client.translate_ids(rows), expected)
    finally:
        served[0].reset()


def assert_same_ids(answers, expected):
    for answer, one in zip(answers, expected, strict=True):
        assert len(answer.ids) == len(one.target_tokens)
        np.testing.assert_allclose(answer.score, one.score, atol=1e-5)
        shape = len(one.target_tokens), len(one.source_tokens)
        scores = np.reshape(answer.attention_scores, shape)
        np.testing.assert_allclose(scores, one.attention_scores, atol=1e-5)


def test_truncated(client):
    truncated = [one.truncated for one in client.explain(TEXTS)]
    assert truncated == [False] * 5 + [True]
