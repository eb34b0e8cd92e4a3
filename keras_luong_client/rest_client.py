"""TF Serving's REST interface, with the standard library."""

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from keras_luong_client.client import Columns, ServingClient
from keras_luong_client.errors import DeadlineError, ServingError, UnavailableError, error_of

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
# Characters of what a server says of an error, which may be a page.
_MOST_OF_A_MESSAGE = 500


class RestClient(ServingClient):
    """Asks over TF Serving's REST interface, with the standard library alone.

    Connections are kept and used again.

    Args:
        url: Where the server is: `"http://localhost:8501"`. A path before `/v1` may follow.
        model: As in `ServingClient`.
        headers: Further headers of every request, such as `Authorization`.
        ssl_context: For `https`; by default the certificates that the system trusts.
        max_answer_bytes: The most that an answer may have; a larger one raises `ServingError`.
        **options: As in `ServingClient`.

    Raises:
        ValueError: For a URL that is neither http nor https, or that holds a user, a password or a
            query, for headers with line breaks or beyond Latin-1, and as `ServingClient`.

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
        max_answer_bytes: int = 64 << 20,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        parts = urllib.parse.urlsplit(url)
        _check_without_secrets(parts)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be like http://localhost:8501. Received: {url!r}")
        _check_headers(headers or {})
        self.url = url
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/") + "/v1/models/" + urllib.parse.quote(model, safe="")
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        if max_answer_bytes < 1:
            raise ValueError(f"`max_answer_bytes` must be at least 1. Received: {max_answer_bytes}")
        self._ssl_context = ssl_context
        self._max_answer_bytes = max_answer_bytes
        # Appending and popping are atomic, so threads share it as it is.
        self._idle: deque[http.client.HTTPConnection] = deque()

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
            # int64 is a string in the JSON of protocol buffers.
            return {
                int(one["version"]): str(one["state"]) for one in answer["model_version_status"]
            }

    def _exchange(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        """Sends one request and reads its answer, within so many seconds."""
        status, reason, content = self._transfer(method, path, body, seconds)
        try:
            answer = json.loads(content)
        except (RecursionError, ValueError):
            answer = None
        if status == http.client.OK and isinstance(answer, dict):
            return answer
        message = answer.get("error") if isinstance(answer, dict) else None
        if message is None:
            beginning = content[:200].decode("utf-8", "replace")
            message = f"HTTP status {status} ({reason}) and no answer of TF Serving: {beginning!r}"
        raise error_of(_CODES.get(status, "INTERNAL"), str(message)[:_MOST_OF_A_MESSAGE])

    def _transfer(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[int, str, bytes]:
        """Status, reason and content of an answer, over a connection that is kept or new."""
        deadline = time.monotonic() + seconds
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connection()
        is_kept = False
        try:
            _set_timeout(connection, deadline)
            connection.request(method, path, body, self._headers)
            _set_timeout(connection, deadline)
            response = connection.getresponse()
            content = bytearray()
            while chunk := response.read1(_CHUNK):  # which waits for one packet at most
                content += chunk
                if len(content) > self._max_answer_bytes:
                    raise ServingError(
                        "INTERNAL",
                        f"The answer is larger than `max_answer_bytes`, {self._max_answer_bytes}.",
                    )
                _set_timeout(connection, deadline)
            if response.length:  # bytes that were promised and did not come
                raise http.client.IncompleteRead(bytes(content), response.length)
            response.close()  # else the connection waits for more to be read
            is_kept = not response.will_close
            return response.status, response.reason, bytes(content)
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
            if is_kept:
                self._idle.append(connection)
            else:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_secure:
            context = self._ssl_context or ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, context=context)
        return http.client.HTTPConnection(self._host, self._port)


@contextlib.contextmanager
def _of_known_shape(what: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServingError(
            "INTERNAL", f"The model's {what} is not as TF Serving writes it: {error!r}"
        ) from error


def _check_without_secrets(parts: urllib.parse.SplitResult) -> None:
    """Raises ValueError, without the URL in it, for what would not be sent but told in errors."""
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "`url` must have no user, password, query or fragment: they are not sent. Secrets go "
            "into `headers`, such as {'Authorization': 'Bearer ...'}. Received: a URL with "
            f"{'a user' if '@' in parts.netloc else 'a query or fragment'}"
        )


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError, without the value in it, for what cannot be sent as a header."""
    for name, value in headers.items():
        try:
            is_sent = not set("\r\n\0") & {*name, *value} and (name + value).encode("latin-1")
        except (TypeError, UnicodeEncodeError):
            is_sent = False
        if not is_sent:
            raise ValueError(
                "`headers` must be strings of Latin-1 without line breaks. Received another one "
                f"under {name!r}"
            )


def _set_timeout(connection: http.client.HTTPConnection, deadline: float) -> None:
    """Lets the next step on the connection wait until the deadline, and no longer."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.timeout = left  # of a connection that is still to be made
    sock: socket.socket | None = connection.sock
    if sock is not None:
        sock.settimeout(left)
