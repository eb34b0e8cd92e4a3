"""TF Serving's REST interface, with the standard library.

urllib3 2.8 and httpx 0.28 would not make it smaller: their timeouts hold for one read each. At a
timeout of 0.3 s a server kept both for the 3 s in which it sent a byte every 0.05 s, as status
line, header, chunk extension, trailer or body, so `TimedSocket` would stand below them as it does
below `http.client`. Each takes longer to import (0.11 to 0.19 s) than this package (0.08 s).
"""

import contextlib
import http.client
import json
import re
import reprlib
import socket
import ssl
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from keras_luong_client.client import Columns, ServingClient
from keras_luong_client.errors import DeadlineError, ServingError, UnavailableError, error_of
from keras_luong_client.timed_socket import TimedSocket, connected

# What TF Serving makes of its status codes: `ToHTTPStatusCode` in its model_servers/http_server.cc.
# A gateway between says 502 when it cannot reach the server.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_CHUNK = 1 << 16
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
# Headers that say how a request is framed, or ask for an answer that is not read.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)


class RestClient(ServingClient):
    """Asks over TF Serving's REST interface, with the standard library alone.

    Connections are kept and used again. The proxies of the environment (`http_proxy`) are not used,
    redirections are not followed, and compressed answers are not asked for. The timeout holds for a
    request as a whole, however slowly the answer comes: for all but the look-up of the host's name,
    which the system bounds, and the reading of the JSON.

    Args:
        url: Where the server is: `"http://localhost:8501"`. A path before `/v1` may follow.
        model: As in `ServingClient`.
        headers: Further headers of every request, such as `Authorization`.
        ssl_context: For `https`; by default the certificates that the system trusts.
        **options: As in `ServingClient`.

    Raises:
        ValueError: For a URL that is neither http nor https, or that holds a user, a password or a
            query, for headers with line breaks or beyond Latin-1 or that frame a request, and as
            `ServingClient`.

    Example:

    ```python
    from keras_luong_client import RestClient

    with RestClient("http://localhost:8501", "dates", label="stable", timeout=5) as client:
        client.wait_until_ready()
        print(client.translate(["the third of May 2021"]))  # ['2021-05-03']
    ```

    Reference: https://www.tensorflow.org/tfx/serving/api_rest
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        parts = _parts_of(url)
        _check_headers(headers or {})
        self.url = url
        self._host, self._port = str(parts.hostname), parts.port
        self._base = parts.path.rstrip("/") + "/v1/models/" + urllib.parse.quote(model, safe="")
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        # "Bearer" and "Basic" are shorter.
        self._secrets = [
            word for value in (headers or {}).values() for word in value.split() if len(word) >= 8
        ]
        self._ssl_context = None
        if parts.scheme == "https":
            self._ssl_context = ssl_context or ssl.create_default_context()
        # Appending and popping are atomic, so threads share it as it is.
        self._idle: deque[socket.socket] = deque()

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    @property
    def _path(self) -> str:
        if self.version is not None:
            return f"{self._base}/versions/{self.version}"
        if self.label is not None:
            return f"{self._base}/labels/{urllib.parse.quote(self.label, safe='')}"
        return self._base

    def _ask(self, signature: str, columns: Columns, seconds: float) -> dict[str, list[Any]]:
        body = json.dumps({"signature_name": signature, "inputs": columns}, ensure_ascii=False)
        answer = self._exchange("POST", f"{self._path}:predict", body.encode(), seconds)
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):  # TF Serving leaves the name of a single output out
            raise ServingError(
                "INTERNAL",
                f"Signature {signature!r} of {self.model!r} does not answer with named outputs: it "
                "is no export of keras_luong.",
            )
        return outputs

    def _ask_signatures(self, seconds: float) -> list[str]:
        answer = self._exchange("GET", f"{self._path}/metadata", None, seconds)
        with _of_known_shape("metadata"):
            return list(answer["metadata"]["signature_def"]["signature_def"].keys())

    def _ask_versions(self, seconds: float) -> dict[int, str]:
        answer = self._exchange("GET", self._base, None, seconds)
        with _of_known_shape("status"):
            return dict(_version_and_state(one) for one in answer["model_version_status"])

    def _exchange(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        """Sends one request and reads its answer, within so many seconds."""
        status, reason, content = self._transfer(method, path, body, seconds)
        try:
            answer = json.loads(content.decode())
        except (RecursionError, ValueError):
            answer = None
        if status == http.client.OK and isinstance(answer, dict):
            return answer
        message = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(message, str):
            beginning = self._without_secrets(content[:_CHUNK].decode("utf-8", "replace"))[:200]
            message = f"HTTP status {status} ({reason}) and no answer of TF Serving: {beginning!r}"
        raise error_of(_CODES.get(status, "INTERNAL"), self._without_secrets(message))

    def _without_secrets(self, text: str) -> str:
        """What a server says, without words of `headers`: some gateways repeat `Authorization`."""
        for word in self._secrets:
            text = text.replace(word, "***")
        return text

    def _transfer(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[int, str, bytes]:
        """Status, reason and content of an answer, over a connection that is kept or new."""
        deadline, sock, is_kept = time.monotonic() + seconds, None, False
        try:
            connection = self._connection()
            sock = self._idle_or_new(connection.port, deadline)
            connection.sock = TimedSocket(sock, deadline, self.max_answer_bytes)
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            content = b"".join(iter(lambda: response.read1(_CHUNK), b""))
            if response.length:  # bytes that were promised and did not come
                raise http.client.IncompleteRead(content, response.length)
            # After a status below 200 the answer itself is still to come.
            is_kept = not response.will_close and response.status >= http.client.OK
            return response.status, response.reason, content
        except TimeoutError as error:
            message = f"{self.url} did not answer within {seconds:.3g} s."
            raise DeadlineError("DEADLINE_EXCEEDED", message) from error
        except ssl.SSLCertVerificationError as error:
            raise ServingError("UNAUTHENTICATED", f"{self.url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            # The server may have closed the other kept connections as well.
            self.close()
            message = f"{self.url} cannot be reached: {type(error).__name__}: {error}"
            raise UnavailableError("UNAVAILABLE", message) from error
        finally:
            if sock is not None:
                self._idle.append(sock) if is_kept else sock.close()

    def _idle_or_new(self, port: int, deadline: float) -> socket.socket:
        try:
            return self._idle.pop()
        except IndexError:
            return connected(self._host, port, self._ssl_context, deadline)

    def _connection(self) -> http.client.HTTPConnection:
        if self._ssl_context is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._ssl_context)
        return http.client.HTTPConnection(self._host, self._port)


@contextlib.contextmanager
def _of_known_shape(what: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServingError(
            "INTERNAL", f"The model's {what} is not as TF Serving writes it: {error!r}"
        ) from error


def _version_and_state(status: dict[str, Any]) -> tuple[int, str]:
    number, state = status["version"], status["state"]
    # int64 is a string in the JSON of protocol buffers.
    if not isinstance(number, str) or not re.fullmatch("[0-9]{1,19}", number):
        raise ValueError(f"version {reprlib.repr(number)}")
    if not isinstance(state, str):
        raise ValueError(f"state {reprlib.repr(state)}")
    return int(number), state


def _parts_of(url: str) -> urllib.parse.SplitResult:
    """Splits a URL. What is raised does not repeat what may be a secret."""
    for mark, of in {"@": "a user", "?": "a query or fragment", "#": "a query or fragment"}.items():
        if mark in url:
            raise ValueError(
                "`url` must have no user, password, query or fragment: they are not sent. Secrets "
                "go into `headers`, such as {'Authorization': 'Bearer ...'}. Received: a URL with "
                f"{of}"
            )
    try:
        parts = urllib.parse.urlsplit(url)
        (parts.hostname or "").encode("idna")
        is_sent = url.isprintable() and " " not in url and parts.path.isascii()
        is_known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_sent = is_known = False
    if not is_sent or not is_known:
        raise ValueError(f"url must be like http://localhost:8501. Received: {url!r}")
    return parts


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError, without the value in it, for what cannot be sent as a header."""
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(
                f"`headers` must have names of letters, digits and hyphens. Received: {name!r}"
            )
        if name.lower() in _OWN_HEADERS:
            raise ValueError(
                f"`headers` must leave out {sorted(_OWN_HEADERS)}: the client sets what it needs "
                f"of them. Received: {name!r}"
            )
        if not isinstance(value, str) or set("\r\n\0") & {*value} or not _is_latin_1(value):
            raise ValueError(
                "`headers` must be strings of Latin-1 without line breaks. Received another one "
                f"under {name!r}"
            )


def _is_latin_1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
