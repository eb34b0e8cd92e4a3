"""What a server, or the road to it, can answer besides a translation."""

# Characters of a message, which may be a page: one of more than the first is cut to the second. The
# difference is for what is added to a message that was cut.
_LONGEST, _CUT = 600, 500


class ServingError(RuntimeError):
    """A request failed.

    Attributes:
        code: The name of gRPC's status code, such as `"NOT_FOUND"`, whichever the protocol.
        message: What the server said, cut to 500 characters, or what happened on the way.

    Reference: https://grpc.io/docs/guides/status-codes/
    """

    def __init__(self, code: str, message: str) -> None:
        if len(message) > _LONGEST:
            message = message[:_CUT] + "..."
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InvalidRequestError(ServingError):
    """The server understood the request and refuses it: sent again, it would be refused again."""


class NotFoundError(ServingError):
    """The server has no such model, or not in this version, or has not loaded it yet."""


class UnavailableError(ServingError):
    """No server could be reached, or its queue is full. Later the same request may pass."""


class DeadlineError(ServingError, TimeoutError):
    """No answer came within the time that was given."""


_KINDS = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
}


def error_of(code: str, message: str) -> ServingError:
    """The error of a status code.

    Example:

    >>> error_of("NOT_FOUND", "Servable not found for request: Latest(de_en)")
    NotFoundError('NOT_FOUND: Servable not found for request: Latest(de_en)')
    """
    return _KINDS.get(code, ServingError)(code, message)
