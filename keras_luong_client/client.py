"""What the clients of both protocols share: the requests of a translator, and its answers."""

import abc
import functools
import math
import numbers
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from keras_luong_client.answers import (
    OUTPUTS,
    IdTranslation,
    Row,
    ScoredTranslation,
    Translation,
    id_translation_of,
    is_unicode,
    scored_translation_of,
    text_of,
    translation_of,
    translations_of,
)
from keras_luong_client.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from keras_luong_client.retrying import RetryPolicy, with_retries

Answer = TypeVar("Answer")
# One list a name, one entry a row.
Columns = Mapping[str, Sequence[Any]]

_PADDING_ID, _END_ID = 0, 3  # as keras_luong numbers them
_LIGHT, _DEFAULT = "light", "serving_default"
_STATES = frozenset({"UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"})


class ServingClient(abc.ABC):
    """A translator on a server: `RestClient` or `GrpcClient`.

    Long lists of texts are sent in several requests, texts of similar length together, one request
    after the other. Their translations come back in the order of the texts, and no texts give no
    translations: TF Serving refuses a request without rows, so none is sent. A client may be used
    by several threads, and as a context manager, which closes it.

    Args:
        model: The name under which the model is served.
        version: The version to ask; by default the newest that is loaded.
        label: The version's label, such as `"stable"`, instead of its number.
        timeout: Seconds for each request, with all its attempts.
        max_batch_size: The most texts in a request. A server with batching refuses more than its
            own `max_batch_size`.
        max_answer_bytes: The most bytes of an answer, the head of an HTTP answer included. A larger
            one raises `ServingError` while it is received.
        retry: A `RetryPolicy`: what is done while the server is not to be reached.

    Raises:
        ValueError: For numbers that are out of range, and if both `version` and `label` are given.
    """

    def __init__(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        max_batch_size: int = 64,
        max_answer_bytes: int = 64 << 20,
        retry: RetryPolicy | None = None,
    ) -> None:
        if version is not None and label is not None:
            raise ValueError(
                "A version has a number or a label, not both. "
                f"Received: version={version!r} and label={label!r}"
            )
        _check_name("model", model)
        if label is not None:
            _check_name("label", label)
        if version is not None:
            _check_integer("version", version, 0)
        _check_seconds("timeout", timeout)
        _check_integer("max_batch_size", max_batch_size, 1)
        _check_integer("max_answer_bytes", max_answer_bytes, 1)
        self.model = model
        self.version = version
        self.label = label
        self.timeout = timeout
        self.max_batch_size = max_batch_size
        self.max_answer_bytes = max_answer_bytes
        self.retry = retry or RetryPolicy()
        self._known_signatures: frozenset[str] | None = None

    def translate(self, texts: Iterable[str]) -> list[str]:
        """Translates texts, in their order.

        It asks for signature `light`, which sends no alignments, where the export has it, else
        `serving_default`.

        Args:
            texts: Strings: a list, a generator, an array or a column of a table, in its order.

        Returns:
            One string a text.

        Raises:
            TypeError: For one string, for a set, which has no order, and for what is no string.
            ValueError: For a text that cannot be written as UTF-8.
            InvalidRequestError: If the server refuses the request.
            NotFoundError: If the server has no such model.
            UnavailableError: If the server cannot be reached.
            DeadlineError: If no answer came in time.
            ServingError: For any other failure.
        """
        texts = _texts("texts", texts)
        if not texts:
            return []
        if self._known_signatures is None:
            self._known_signatures = self.signatures()
        signature = _LIGHT if _LIGHT in self._known_signatures else _DEFAULT
        try:
            return self._of_texts(signature, {"text": texts}, text_of)
        except InvalidRequestError:
            # Another version may have taken its place, and offer something else.
            self._known_signatures = None
            raise

    def explain(self, texts: Iterable[str]) -> list[Translation]:
        """Translates like `translate`, and says how: one `Translation` a text.

        Raises:
            TypeError: As `translate`.
            ValueError: As `translate`.
            ServingError: As `translate`.
        """
        texts = _texts("texts", texts)
        return self._of_texts(_DEFAULT, {"text": texts}, translation_of)

    def n_best(
        self, texts: Iterable[str], alpha: float | Iterable[float] = 0.0
    ) -> list[list[Translation]]:
        """Translates into several translations of each text, best first.

        Args:
            texts: Strings.
            alpha: The exponent of the length penalty, one for all or one a text; 0 is none.

        Returns:
            For each text as many as the search found, at least one.

        Raises:
            TypeError: As `translate`.
            ValueError: As `translate`, and for numbers that are not one a text.
            ServingError: As `translate`.
        """
        texts = _texts("texts", texts)
        alphas = _one_each("alpha", alpha, len(texts))
        columns: Columns = {"text": texts, "alpha": [float(number) for number in alphas]}
        return self._of_texts("n_best", columns, translations_of)

    def score(self, texts: Iterable[str], translations: Iterable[str]) -> list[ScoredTranslation]:
        """Says how probable the model finds given translations.

        Args:
            texts: Strings.
            translations: One for each text.

        Returns:
            One `ScoredTranslation` a text.

        Raises:
            TypeError: As `translate`.
            ValueError: As `translate`, and for lists of different lengths.
            ServingError: As `translate`.
        """
        texts = _texts("texts", texts)
        translations = _texts("translations", translations)
        if len(texts) != len(translations):
            raise ValueError(
                f"There must be one translation a text. Received: {len(texts)} texts and "
                f"{len(translations)} translations"
            )
        columns = {"text": texts, "target_text": translations}
        return self._of_texts("score", columns, scored_translation_of)

    def sample(self, texts: Iterable[str], seed: int | Iterable[int]) -> list[list[Translation]]:
        """Draws translations, from an export that was made with `sample=`.

        Args:
            texts: Strings.
            seed: A number, to which the place of a text is added, or one a text. What is drawn
                depends on a text and its seed alone.

        Returns:
            For each text its translations, best first.

        Raises:
            TypeError: As `translate`.
            ValueError: As `translate`, and for numbers that are not one a text or not of 32 bits.
            ServingError: As `translate`.
        """
        texts = _texts("texts", texts)
        seeds = [operator.index(one) for one in _one_each("seed", seed, len(texts))]
        if isinstance(seed, numbers.Integral):
            seeds = [first + place for place, first in enumerate(seeds)]
        _check_int32("seed", seeds)
        return self._of_texts("sample", {"text": texts, "seed": seeds}, translations_of)

    def translate_ids(self, source_ids: Iterable[Iterable[int]]) -> list[IdTranslation]:
        """Translates rows of ids, for callers with a tokenizer of their own.

        A server with batching needs `pad_variable_length_inputs: true`, for requests are as wide as
        their longest row.

        Args:
            source_ids: The ids of a text, the end id 3 last: a row without one is given it. What
                stands behind the first 3 or 0 is not read.

        Returns:
            One `IdTranslation` a row.

        Raises:
            TypeError: For rows that do not hold integers.
            ValueError: For integers beyond 32 bits.
            ServingError: As `translate`.
        """
        given = _listed("source_ids", source_ids, "rows of integers")
        rows = [_ended(_ids(index, row)) for index, row in enumerate(given)]
        answers: dict[int, IdTranslation] = {}
        for places in _batches([len(row) for row in rows], self.max_batch_size):
            width = max(len(rows[place]) for place in places)
            padded = [rows[place] + [_PADDING_ID] * (width - len(rows[place])) for place in places]
            found = self._predict("ids", {"source_ids": padded})
            for place, row in zip(places, found, strict=True):
                read = functools.partial(id_translation_of, source_length=len(rows[place]))
                answers[place] = self._read("ids", place, row, read)
        return [answers[place] for place in range(len(rows))]

    def signatures(self) -> frozenset[str]:
        """The names of the signatures that the served version has.

        Raises:
            NotFoundError: If the model, or the version, is not loaded.
            ServingError: As `translate`.
        """
        return frozenset(self._retried(self._ask_signatures))

    def versions(self) -> dict[int, str]:
        """The states of the model's versions that the server knows of.

        Returns:
            By number: `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"`, `"END"` or, of a server
            that does not know, `"UNKNOWN"`.

        Raises:
            NotFoundError: If the server has no such model.
            ServingError: As `translate`.
        """
        states = self._retried(self._ask_versions)
        for number, state in states.items():
            if number < 0 or state not in _STATES:
                raise ServingError(
                    "INTERNAL",
                    f"The status of {self.model!r} has version {number} in state {state!r}. The "
                    f"states are {sorted(_STATES)}.",
                )
        return states

    def is_ready(self) -> bool:
        """Whether the version that is asked is loaded. One short question, without retries.

        Raises:
            ServingError: If the server answers, but neither yes nor no: such as for want of rights.
        """
        return self._is_ready(self.timeout)

    def wait_until_ready(self, timeout: float = 60.0, interval: float = 0.5) -> None:
        """Waits until `is_ready`.

        Args:
            timeout: Seconds to wait.
            interval: Seconds between two questions.

        Raises:
            ValueError: For a timeout that is not finite and above 0, or an interval below 0.
            DeadlineError: If it is not ready in time.
        """
        _check_seconds("timeout", timeout)
        if not 0 <= interval < math.inf:
            raise ValueError(f"`interval` must be finite and at least 0. Received: {interval}")
        deadline = time.monotonic() + timeout
        left = timeout
        while not self._is_ready(min(left, self.timeout)):
            left = deadline - time.monotonic() - interval
            if left <= 0:
                raise DeadlineError(
                    "DEADLINE_EXCEEDED", f"{self.model!r} was not ready within {timeout:g} s."
                )
            time.sleep(interval)

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abc.abstractmethod
    def _ask(self, signature: str, columns: Columns, seconds: float) -> dict[str, list[Any]]:
        """Sends one request for a prediction, once. Returns the outputs, one list a name."""

    @abc.abstractmethod
    def _ask_signatures(self, seconds: float) -> list[str]:
        """Sends one request for the model's metadata, once."""

    @abc.abstractmethod
    def _ask_versions(self, seconds: float) -> dict[int, str]:
        """Sends one request for the model's status, once."""

    def _is_ready(self, seconds: float) -> bool:
        try:
            self._ask_signatures(seconds)
        except (DeadlineError, InvalidRequestError, NotFoundError, UnavailableError):
            return False  # an invalid request: a label that the server does not know yet
        return True

    def _retried(self, ask: Callable[[float], Answer]) -> Answer:
        return with_retries(ask, self.timeout, self.retry)

    def _of_texts(
        self, signature: str, columns: Columns, read: Callable[[Row], Answer]
    ) -> list[Answer]:
        """Asks for texts, in batches, and reads the rows of the answers."""
        answers: dict[int, Answer] = {}
        for places in _batches([len(text) for text in columns["text"]], self.max_batch_size):
            batch = {name: [column[place] for place in places] for name, column in columns.items()}
            for place, row in zip(places, self._predict(signature, batch), strict=True):
                answers[place] = self._read(signature, place, row, read)
        return [answers[place] for place in range(len(answers))]

    def _predict(self, signature: str, columns: Columns) -> list[Row]:
        """The rows of the answer to one request."""
        outputs = self._retried(lambda seconds: self._ask(signature, columns, seconds))
        (count,) = {len(column) for column in columns.values()}
        outputs = {name: column for name, column in outputs.items() if name in OUTPUTS}
        for name, column in outputs.items():
            if not isinstance(column, list):
                raise ServingError(
                    "INTERNAL",
                    f"Output {name!r} of signature {signature!r} is no list of rows.",
                )
            if len(column) != count:
                raise ServingError(
                    "INTERNAL",
                    f"Output {name!r} of signature {signature!r} has {len(column)} rows for the "
                    f"{count} that were sent.",
                )
        return [{name: column[index] for name, column in outputs.items()} for index in range(count)]

    def _read(self, signature: str, place: int, row: Row, read: Callable[[Row], Answer]) -> Answer:
        try:
            return read(row)
        except KeyError as error:
            raise ServingError(
                "INTERNAL",
                f"Signature {signature!r} of {self.model!r} has no output {error}: it is no export "
                f"of keras_luong. It has {sorted(row)}.",
            ) from error
        except ValueError as error:
            raise ServingError(
                "INTERNAL",
                f"Signature {signature!r} of {self.model!r} answers the text at {place} with a "
                f"value of the wrong kind: {error}",
            ) from error


def _check_name(argument: str, name: str) -> None:
    # A dot or two would be a step in a path, which a gateway may take: to another version.
    if not isinstance(name, str) or name in ("", ".", "..") or not is_unicode(name):
        raise ValueError(
            f"`{argument}` must be a name that is not empty, '.' or '..'. Received: {name!r}"
        )


def _check_integer(argument: str, number: int, least: int) -> None:
    is_integer = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    if not is_integer or not least <= number < 1 << 63:
        raise ValueError(
            f"`{argument}` must be an integer from {least} to 2**63 - 1. Received: {number!r}"
        )


def _check_seconds(argument: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"`{argument}` must be a finite number of seconds above 0. Received: {seconds}"
        )


def _batches(lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Cuts rows into batches of similar length, the longest first.

    >>> list(_batches([3, 9, 4, 9, 1], 2))
    [[1, 3], [2, 0], [4]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def _listed(name: str, values: Any, of: str) -> list[Any]:
    """The values in their order, read once: a generator is empty the second time."""
    error = TypeError(f"`{name}` must be a list of {of}. Received: {values!r}")
    if isinstance(values, str | bytes | set | frozenset):
        raise error
    try:
        return list(values)
    except TypeError as cause:
        raise error from cause


def _texts(name: str, texts: Iterable[str]) -> list[str]:
    texts = _listed(name, texts, "strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`{name}` must be strings. Received at {index}: {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"The text at {index} cannot be written as UTF-8: {error}") from error
    return [str(text) for text in texts]  # NumPy's own strings are subclasses


def _one_each(name: str, values: Any, count: int) -> list[Any]:
    """One value a text, of one for all or a list."""
    if isinstance(values, numbers.Real):
        return [values] * count
    values = _listed(name, values, "numbers, or one number")
    if len(values) != count:
        raise ValueError(
            f"`{name}` must be one number, or one a text. Received: {len(values)} for {count} texts"
        )
    return values


def _ids(index: int, row: Iterable[int]) -> list[int]:
    try:
        # Takes NumPy's integers too, but no 1.0.
        ids = [operator.index(number) for number in _listed("source_ids", row, "integers")]
    except TypeError as error:
        raise TypeError(
            f"`source_ids` must be lists of integers. Received at {index}: {row!r}"
        ) from error
    _check_int32("source_ids", ids)
    return ids


def _check_int32(argument: str, values: list[int]) -> None:
    for value in values:
        if not -(1 << 31) <= value < 1 << 31:
            raise ValueError(f"`{argument}` must be integers of 32 bits. Received: {value}")


def _ended(ids: list[int]) -> list[int]:
    """The ids before the first end or padding, and the end.

    It is always sent: TF Serving fills rows up with the first id of a request, and behind the end
    nothing is read.

    >>> _ended([7, 8]), _ended([7, 3, 9]), _ended([0, 7])
    ([7, 8, 3], [7, 3], [3])
    """
    over = (place for place, one in enumerate(ids) if one in (_PADDING_ID, _END_ID))
    return [*ids[: next(over, len(ids))], _END_ID]
