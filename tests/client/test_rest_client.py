"""`RestClient` over a server that gives hand-written answers, and one that misbehaves."""

import contextlib
import gzip
import json
import math
import socket
import threading
import time
import traceback

import pytest

from keras_luong_client import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    RestClient,
    RetryPolicy,
    ServingError,
    UnavailableError,
)

ONCE = RetryPolicy(max_attempts=1)
METADATA = (
    '{"model_spec": {"name": "m"}, "metadata": {"signature_def": {"signature_def": '
    '{"serving_default": {}, "light": {}}}}}'
)


def answer_of(body, status="200 OK", headers=""):
    content = body.encode()
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextlib.contextmanager
def server_of(*answers, keeps=True):
    """Listens, answers requests with the given bytes in turn, and hangs after the last of them.

    Yields its URL and a list of the requests: their first line, headers and body. With
    `keeps=False` each connection is closed after an answer, though the answer does not say so.
    """
    requests, waiting, over = [], list(answers), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def serve(connection):
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().decode().strip()) != "":
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                body = stream.read(int(headers.get("content-length", 0)))
                requests.append((line.decode().strip(), headers, body.decode()))
                if not waiting:
                    over.wait(20)
                    return
                connection.sendall(waiting.pop(0))
                if not keeps:
                    return

    def listen():
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        over.set()
        thread.join()
        listener.close()


def asked(method, arguments, body, **options):
    """What a client makes of an answer, and what it sent for it."""
    with server_of(answer_of(body)) as (url, requests), RestClient(url, "m", **options) as client:
        result = getattr(client, method)(*arguments)
    ((line, _, sent),) = requests
    return result, line, json.loads(sent)


def test_the_default_signature():
    # Of two texts, the longer first; both are as wide as the longest of the merged batch.
    body = """{"outputs": {
        "translation": ["eins zwei", ""],
        "score": [-0.5, 0.0],
        "log_prob": [-0.75, 0.0],
        "source_tokens": [["one", "two", "</s>", ""], ["</s>", "", "", ""]],
        "source_length": [3, 1],
        "target_tokens": [["eins", "zwei", "</s>", "", ""], ["", "", "", "", ""]],
        "target_length": [3, 0],
        "attention_scores": [
            [[1.0, 0.0, 0.0, 0.0], [0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0],
             [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
            [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0],
             [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]],
        "truncated": [true, false]
    }}"""
    (empty, two), line, sent = asked("explain", (["", "one two"],), body, version=4)
    assert line == "POST /v1/models/m/versions/4:predict HTTP/1.1"
    assert sent == {"signature_name": "serving_default", "inputs": {"text": ["one two", ""]}}
    assert two == (
        "eins zwei",
        -0.5,
        ["one", "two", "</s>"],
        ["eins", "zwei", "</s>"],
        [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]],
        -0.75,
        True,
    )
    assert empty == ("", 0.0, ["</s>"], [], [], 0.0, False)


def test_the_n_best():
    # Two places; the second text found one hypothesis, the third none.
    body = """{"outputs": {
        "translation": [["eins", "zwei"], ["drei", ""], ["", ""]],
        "score": [[-0.5, -1.5], [-2.0, 0.0], [0.0, 0.0]],
        "log_prob": [[-1.0, -3.0], [-4.0, 0.0], [0.0, 0.0]],
        "source_tokens": [["one", "</s>"], ["three", "</s>"], ["x", "</s>"]],
        "source_length": [2, 2, 2],
        "target_tokens": [[["eins", ""], ["zwei", "</s>"]], [["drei", "</s>"], ["", ""]],
                          [["", ""], ["", ""]]],
        "target_length": [[1, 2], [2, 0], [0, 0]],
        "attention_scores": [[[[0.5, 0.5], [0.0, 0.0]], [[0.25, 0.75], [1.0, 0.0]]],
                             [[[0.5, 0.5], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]],
                             [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]],
        "truncated": [false, false, true]
    }}"""
    result, _, sent = asked("n_best", (["abc", "de", "f"], [0.0, 1, 2.5]), body)
    assert sent == {
        "signature_name": "n_best",
        "inputs": {"text": ["abc", "de", "f"], "alpha": [0.0, 1.0, 2.5]},
    }
    assert result[0] == [
        ("eins", -0.5, ["one", "</s>"], ["eins"], [[0.5, 0.5]], -1.0, False),
        ("zwei", -1.5, ["one", "</s>"], ["zwei", "</s>"], [[0.25, 0.75], [1.0, 0.0]], -3.0, False),
    ]
    assert [one.text for one in result[1]] == ["drei"]
    assert result[2] == [("", -math.inf, ["x", "</s>"], [], [], -math.inf, True)]


def test_samples():
    body = """{"outputs": {
        "translation": [["b"], ["a"]], "score": [[-1.0], [-2.0]], "log_prob": [[-1.0], [-2.0]],
        "source_tokens": [["</s>"], ["</s>"]], "source_length": [1, 1],
        "target_tokens": [[["b"]], [["a"]]], "target_length": [[1], [1]],
        "attention_scores": [[[[1.0]]], [[[1.0]]]]
    }}"""
    result, _, sent = asked("sample", (["x", "yy"], 7), body)
    # The seed of a text is that of its place, wherever it goes in the request.
    assert sent["inputs"] == {"text": ["yy", "x"], "seed": [8, 7]}
    assert [one.text for (one,) in result] == ["a", "b"]
    assert result[0][0].truncated is None


def test_scores():
    body = """{"outputs": {
        "log_prob": [-1.5], "token_log_probs": [[-1.0, -0.5, 0.0]],
        "source_tokens": [["one", "</s>", ""]], "source_length": [2],
        "target_tokens": [["eins", "</s>", ""]], "target_length": [2],
        "attention_scores": [[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]],
        "truncated": [false], "target_truncated": [true]
    }}"""
    (result,), _, sent = asked("score", (["one"], ["eins"]), body)
    assert sent == {
        "signature_name": "score",
        "inputs": {"text": ["one"], "target_text": ["eins"]},
    }
    assert result == (
        -1.5,
        [-1.0, -0.5],
        ["one", "</s>"],
        ["eins", "</s>"],
        [[1.0, 0.0], [0.5, 0.5]],
        False,
        True,
    )


IDS = """{"outputs": {
    "target_ids": [[9, 8, 3], [7, 3, 0]], "target_length": [3, 2], "score": [-1.0, -2.0],
    "log_prob": [-1.5, -2.5], "truncated": [true, false],
    "attention_scores": [[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
                         [[0.5, 0.5, 0.0, 0.0], [0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
}}"""


def test_ids():
    # A row without its end, and one with something behind it.
    (short, long), _, sent = asked("translate_ids", ([[4], [5, 6, 3, 9]],), IDS)
    assert sent == {"signature_name": "ids", "inputs": {"source_ids": [[5, 6, 3], [4, 3, 0]]}}
    assert short == ([7, 3], -2.0, [[0.5, 0.5], [0.25, 0.75]], -2.5, False)
    assert long.ids == [9, 8, 3] and long.truncated
    assert long.attention_scores == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_translate_takes_the_light_signature_and_asks_for_it_once():
    light = (
        '{"outputs": {"translation": ["eins"], "score": [-1.0], "log_prob": [-1.0], '
        '"truncated": [false]}}'
    )
    answers = [answer_of(body) for body in (METADATA, light, light)]
    with server_of(*answers) as (url, requests), RestClient(url, "m", label="stable") as client:
        assert client.translate(["one"]) == client.translate(["one"]) == ["eins"]
    assert [line for line, _, _ in requests] == [
        "GET /v1/models/m/labels/stable/metadata HTTP/1.1",
        "POST /v1/models/m/labels/stable:predict HTTP/1.1",
        "POST /v1/models/m/labels/stable:predict HTTP/1.1",
    ]
    assert json.loads(requests[1][2]) == {"signature_name": "light", "inputs": {"text": ["one"]}}


def test_a_version_without_the_light_signature_is_noticed_at_the_next_request():
    plain = '{"metadata": {"signature_def": {"signature_def": {"serving_default": {}}}}}'
    refused = answer_of('{"error": "no signature light"}', "400 Bad Request")
    default = '{"outputs": {"translation": ["eins"], "score": [-1.0]}}'
    answers = [answer_of(METADATA), refused, answer_of(plain), answer_of(default)]
    with server_of(*answers) as (url, _), RestClient(url, "m") as client:
        with pytest.raises(InvalidRequestError, match="no signature light"):
            client.translate(["one"])
        assert client.translate(["one"]) == ["eins"]


def test_text_headers_and_the_path_arrive_as_they_are():
    body = '{"outputs": {"translation": ["ß"], "score": [0.0]}}'
    answers = [answer_of(METADATA), answer_of(body)]
    with (
        server_of(*answers) as (url, requests),
        RestClient(f"{url}/behind/", "a/b c", headers={"Authorization": "Bearer x"}) as client,
    ):
        assert client.translate(['"犬"\n\0🙂']) == ["ß"]
    line, headers, sent = requests[1]
    assert line == "POST /behind/v1/models/a%2Fb%20c:predict HTTP/1.1"
    assert headers["authorization"] == "Bearer x"
    assert headers["content-type"] == "application/json"
    assert json.loads(sent)["inputs"]["text"] == ['"犬"\n\0🙂']


def test_numbers_that_are_none_are_read():
    body = '{"outputs": {"translation": ["x"], "score": [-Infinity], "log_prob": [NaN]}}'
    with (
        server_of(answer_of(METADATA), answer_of(body)) as (url, _),
        RestClient(url, "m") as client,
    ):
        assert client.translate(["one"]) == ["x"]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ("400 Bad Request", InvalidRequestError, "INVALID_ARGUMENT"),
        ("401 Unauthorized", ServingError, "UNAUTHENTICATED"),
        ("404 Not Found", NotFoundError, "NOT_FOUND"),
        ("429 Too Many Requests", ServingError, "RESOURCE_EXHAUSTED"),
        ("500 Internal Server Error", ServingError, "INTERNAL"),
        ("502 Bad Gateway", UnavailableError, "UNAVAILABLE"),
        ("503 Service Unavailable", UnavailableError, "UNAVAILABLE"),
        ("504 Gateway Timeout", DeadlineError, "DEADLINE_EXCEEDED"),
    ],
)
@pytest.mark.parametrize(
    ("body", "message"),
    [('{"error": "so it is"}', "so it is"), ("<html>a proxy</html>", "no answer of TF Serving")],
)
def test_statuses(status, error, code, body, message):
    with (
        server_of(answer_of(body, status)) as (url, _),
        RestClient(url, "m", retry=ONCE) as client,
        pytest.raises(error, match=message) as caught,
    ):
        client.explain(["one"])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>a login page</html>", "no answer of TF Serving: '<html>a login"),
        ('{"outputs": ["one output has no name"]}', "named outputs"),
        ('{"outputs": {"translation": ["eins"]}}', "has no output 'source_length'"),
        ('{"outputs": {"translation": ["eins", "zwei"]}}', "2 rows for the 1"),
        ('{"outputs": {"translation": 3}}', "'translation' .* is no list of rows"),
        ('{"outputs": {"translation": ["eins"], "source_length": ["x"]}}', "of the wrong kind"),
        ('{"outputs": {"translation": ["eins"], "source_length": [null]}}', "of the wrong kind"),
        ("[" * 200_000, "no answer of TF Serving"),
    ],
)
def test_answers_that_are_none(body, message):
    # "target_length" is read first
    body = body.replace('["eins"]', '["eins"], "target_length": [0]')
    with (
        server_of(answer_of(body)) as (url, _),
        RestClient(url, "m") as client,
        pytest.raises(ServingError, match=message),
    ):
        client.explain(["one"])


def test_a_server_that_hangs_is_not_waited_for():
    with server_of() as (url, requests), RestClient(url, "m", timeout=0.2) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineError, match="did not answer within 0.2 s"):
            client.explain(["one"])
    assert time.monotonic() - began < 2 and len(requests) == 1


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# What a server sends at once, and what it sends again and again.
ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"x"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "header": (OK + b"X: ", b"x"),
    "headers": (OK, b"X: x\r\n"),
    "body": (OK + b"Content-Length: 1000000000000000\r\n\r\n", b" "),
    "body until it closes": (OK + b"Connection: close\r\n\r\n", b" "),
    "chunk": (CHUNKED + b"7fffffffffffffffffff\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "chunk extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n"),
    "handshake": (b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\0"),  # of TLS: 16 KB of ServerHello
    "body of an error": (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n", b" "),
}


@contextlib.contextmanager
def endless_server(kind, times, pause):
    """Sends one endless answer, for two seconds at most."""
    first, again = ENDLESS[kind]
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            end = time.monotonic() + 2
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(first)
                while time.monotonic() < end and not over.wait(pause):
                    connection.sendall(again * times)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_deadline_holds_whatever_drips(kind):
    with endless_server(kind, times=1, pause=0.02) as url:
        began = time.monotonic()
        if kind == "handshake":
            url = url.replace("http", "https")
        with RestClient(url, "m", timeout=0.15) as client, pytest.raises(DeadlineError):
            client.signatures()
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("kind", sorted(ENDLESS.keys() - {"handshake"}))
def test_an_endless_answer_is_not_read(kind):
    with endless_server(kind, times=10_000, pause=0) as url:
        client = RestClient(url, "m", retry=ONCE, timeout=1.5, max_answer_bytes=1 << 20)
        # Lines and numbers of headers are bounded too, by http.client.
        with pytest.raises(ServingError, match="`max_answer_bytes`, 1048576|LineTooLong|got more"):
            client.signatures()
        client.close()


def test_a_server_that_does_not_read_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = RestClient(url, "m", timeout=0.15)
        with pytest.raises(DeadlineError, match="did not answer"):
            client.explain(["x" * 20_000_000])


def test_compressed_answers_are_not_asked_for_and_not_read():
    body = gzip.compress(METADATA.encode())
    head = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        server_of(OK + head.encode() + body) as (url, requests),
        RestClient(url, "m") as client,
        pytest.raises(ServingError, match="no answer of TF Serving"),
    ):
        client.signatures()
    assert requests[0][1]["accept-encoding"] == "identity"


def test_an_answer_that_follows_an_early_one_is_not_taken_for_the_next():
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    answers = early + answer_of("{}"), answer_of(METADATA)
    with server_of(*answers) as (url, _), RestClient(url, "m") as client:
        with pytest.raises(ServingError, match="HTTP status 103"):
            client.signatures()
        assert client.signatures() == {"serving_default", "light"}


def test_an_answer_that_breaks_off_is_asked_for_again():
    halved = answer_of(METADATA)[:-20]
    with (
        server_of(halved, answer_of(METADATA), keeps=False) as (url, requests),
        RestClient(url, "m", retry=RetryPolicy(initial_backoff=0.0)) as client,
    ):
        assert client.signatures() == {"serving_default", "light"}
    assert len(requests) == 2


def test_connections_are_kept_and_made_anew_when_the_server_closed_them():
    answers = [answer_of(METADATA)] * 3
    policy = RetryPolicy(initial_backoff=0.0)
    with server_of(*answers) as (url, _), RestClient(url, "m", retry=policy) as client:
        client.signatures()
        (kept,) = client._idle
        client.signatures()
        assert list(client._idle) == [kept]
    with (
        server_of(*answers, keeps=False) as (url, requests),
        RestClient(url, "m", retry=policy) as client,
    ):
        for _ in answers:
            client.signatures()
    assert len(requests) == 3


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = RestClient(f"http://127.0.0.1:{port}", "m", retry=RetryPolicy(initial_backoff=0.0))
    assert not client.is_ready()
    with pytest.raises(UnavailableError, match=r"cannot be reached: ConnectionRefused.*5 attempts"):
        client.translate(["one"])


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8501",
        "ftp://localhost",
        "http://",
        "",
        "http://localhost:99999",
        "http://localhost:x",
        "http://[::1",
        "http://local host",
        "http://localhost/a b",
        "http://localhost/\r\nX: 1",
        "http://localhost/\u20ac",
        f"http://{'x' * 64}",
    ],
)
def test_bad_urls(url):
    with pytest.raises(ValueError, match="url must be like http://localhost:8501"):
        RestClient(url, "m")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://user:hidden@localhost:8501", "a user"),
        ("htp://hidden@localhost", "a user"),
        ("user:hidden@localhost:8501", "a user"),
        ("http://user:hidden@\u2100", "a user"),
        ("http://localhost:8501?token=hidden", "a query or fragment"),
        ("http://localhost:8501/#hidden", "a query or fragment"),
    ],
)
def test_secrets_in_the_url_raise_and_are_not_repeated(url, kind):
    with pytest.raises(ValueError, match=f"`headers`.* Received: a URL with {kind}") as error:
        RestClient(url, "dates")
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "hidden\r\nY: 1"},
        {"X": "hidden \u20ac"},
        {"X": 5},
        {"X": b"hidden"},
    ],
)
def test_header_values_that_cannot_be_sent_raise_and_are_not_repeated(headers):
    with pytest.raises(ValueError, match="Latin-1 without line breaks. Received .* 'X") as error:
        RestClient("http://localhost:8501", "dates", headers=headers)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("name", ["", "X\n", "X Y", "X:", "\u20ac", 5, "Content-length", "expect"])
def test_headers_that_are_no_names_or_the_clients_own_raise(name):
    with pytest.raises(ValueError, match="`headers` must (have names|leave out)"):
        RestClient("http://localhost:8501", "dates", headers={name: "1"})


def failures_of(client):
    """What a client raises, one error after the other, with all that led to it."""
    for ask in (client.signatures, client.versions, lambda: client.explain(["one"])):
        with pytest.raises(ServingError) as caught:
            ask()
        yield "".join(traceback.format_exception(caught.value))
        yield from (repr(error) for error in (caught.value, caught.value.__cause__))


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        answer_of("{}"),
        answer_of("Bearer hidden-token " * 50, "401 Unauthorized"),
        answer_of('{"error": "Authorization=Bearer hidden-token"}', "403 Forbidden"),
    ],
)
def test_a_secret_in_the_headers_is_in_no_error_and_no_log(answer, caplog):
    caplog.set_level(0)
    headers = {"Authorization": "Bearer hidden-token"}
    with (
        server_of(*[answer] * 3) as (url, requests),
        RestClient(url, "m", headers=headers, retry=ONCE) as client,
    ):
        told = [repr(client), *failures_of(client), caplog.text]
    assert [sent["authorization"] for _, sent, _ in requests] == ["Bearer hidden-token"] * 3
    assert not any("hid" in text for text in told)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with server_of(answer_of(METADATA)) as (url, _), RestClient(url, "m") as client:
        assert client.signatures()


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"metadata": [], "model_version_status": 3}',
        '{"metadata": {"signature_def": {"signature_def": 1}}, "model_version_status": [{}]}',
        '{"metadata": null, "model_version_status": [{"version": "x", "state": "y"}]}',
        '{"metadata": {"signature_def": {}}, "model_version_status": {"version": "1"}}',
        *(
            f'{{"metadata": 5, "model_version_status": [{{"version": {version}, "state": "END"}}]}}'
            for version in ("true", "1.5", '" 1"', '"1_0"', '"-1"', '"\u0661"', "[[[]]]", "null")
        ),
        '{"metadata": "x", "model_version_status": [{"version": "1", "state": ["END"]}]}',
    ],
)
@pytest.mark.parametrize("ask", ["signatures", "versions"])
def test_metadata_and_status_of_another_shape(body, ask):
    with (
        server_of(answer_of(body)) as (url, _),
        RestClient(url, "m", retry=ONCE) as client,
        pytest.raises(ServingError, match="not as TF Serving writes it"),
    ):
        getattr(client, ask)()


def test_a_state_that_is_none_is_named():
    body = '{"model_version_status": [{"version": "7", "state": "GONE"}]}'
    with (
        server_of(answer_of(body)) as (url, _),
        RestClient(url, "m") as client,
        pytest.raises(ServingError, match="version 7 in state 'GONE'"),
    ):
        client.versions()


def test_an_answer_that_is_too_large_is_not_read():
    body = json.dumps({"outputs": {"translation": ["x" * 3_000]}})
    with server_of(answer_of(body)) as (url, _):
        client = RestClient(url, "m", retry=ONCE, max_answer_bytes=1_000)
        with pytest.raises(ServingError, match="larger than `max_answer_bytes`, 1000"):
            client.explain(["one"])
        client.close()


def test_what_a_server_says_of_an_error_is_cut():
    body = json.dumps({"error": "no " * 100_000})
    with (
        server_of(answer_of(body, 400)) as (url, _),
        RestClient(url, "m") as client,
        pytest.raises(ServingError) as error,
    ):
        client.explain(["one"])
    assert len(str(error.value)) < 600
