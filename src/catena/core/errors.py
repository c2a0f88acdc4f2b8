"""The one error tree: a stable code, a sentence for a person, and a hint that says what to do next.

CatenaError
├── InputError            invalid_input        the caller sent something unusable
│   ├── UnsupportedError  unsupported          a known wish that this part cannot honour
│   ├── ContextError      context_overflow     more tokens than the model's context; both numbers given
│   ├── TooLargeError     too_large            a limit on size, depth or count was passed
│   ├── FormatError       malformed_file       a file is not what its name or header claims
│   └── ConfigError       invalid_config       a setting is unknown or out of range
├── NotFoundError         not_found            no such model, receipt, route, file
├── ConflictError         conflict             somebody else holds it, or it exists differently
├── UnauthenticatedError  unauthenticated      no key, or an unknown one
├── ForbiddenError        forbidden            a valid caller, but not for this (Host, Origin, scope)
├── RefusedError          refused              policy says no; nothing was computed
├── BusyError             busy                 the queue is full; try again after `retry_after_s`
├── ExpiredError          expired              a time limit passed
├── CancelledError        cancelled            the caller went away or asked to stop
├── IntegrityError        integrity            bytes do not match their digest, proof or signature
├── AuditError            audit_unavailable    the audit log cannot be written: no record, no answer
├── ResourceError         out_of_resources     memory, disk or device space is missing
├── MissingExtraError     missing_extra        an optional dependency is not installed
├── EngineError           engine_failed        an engine broke on a valid request
├── NetworkError          network              a peer could not be reached or broke off
└── ProviderError         provider_refused     a provider refused the gateway's own key or account
"""

from __future__ import annotations


class CatenaError(Exception):
    """Root of every error that Catena raises on purpose.

    `message` never holds prompt, answer or document text, so it may be logged.
    """

    code = "internal"

    def __init__(self, message: str, *, hint: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.receipt: str | None = None  # set by the router once the request was recorded

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class InputError(CatenaError):
    code = "invalid_input"


class UnsupportedError(InputError):
    code = "unsupported"


class ContextError(InputError):
    """The prompt, or prompt plus requested answer, exceeds the context; `needed` and `available` in tokens."""

    code = "context_overflow"

    def __init__(self, needed: int, available: int, *, hint: str = "") -> None:
        super().__init__(
            f"the request needs {needed} tokens but the model's context holds {available}",
            hint=hint or "shorten the input, ask for fewer tokens, or choose a model with a longer context",
            param="messages",
        )
        self.needed = needed
        self.available = available


class TooLargeError(InputError):
    code = "too_large"


class FormatError(InputError):
    code = "malformed_file"


class ConfigError(InputError):
    code = "invalid_config"


class NotFoundError(CatenaError):
    code = "not_found"


class ConflictError(CatenaError):
    code = "conflict"


class UnauthenticatedError(CatenaError):
    code = "unauthenticated"


class ForbiddenError(CatenaError):
    code = "forbidden"


class RefusedError(CatenaError):
    code = "refused"


class BusyError(CatenaError):
    """The bounded queue is full; `retry_after_s` is when a place is likely."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint or f"try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class ExpiredError(CatenaError):
    code = "expired"


class CancelledError(CatenaError):
    code = "cancelled"


class IntegrityError(CatenaError):
    code = "integrity"


class AuditError(CatenaError):
    code = "audit_unavailable"


class ResourceError(CatenaError):
    code = "out_of_resources"


class MissingExtraError(CatenaError):
    """`package` is not installed; `extra` is the extra of Catena that brings it."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"pip install 'catena[{extra}]'")


class EngineError(CatenaError):
    code = "engine_failed"


class NetworkError(CatenaError):
    code = "network"


class ProviderError(CatenaError):
    """For whoever runs the gateway to mend: the caller's own key has nothing to do with it."""

    code = "provider_refused"


def leaves(error: BaseException) -> list[BaseException]:
    """The errors that `error` is made of: itself, or what a group holds, however deep, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]


HTTP_STATUS: dict[str, int] = {
    "internal": 500,
    "invalid_input": 400,
    "unsupported": 400,
    "context_overflow": 400,
    "too_large": 413,
    "malformed_file": 422,
    "invalid_config": 400,
    "not_found": 404,
    "conflict": 409,
    "unauthenticated": 401,
    "forbidden": 403,
    "refused": 403,
    "busy": 429,
    "expired": 504,
    "cancelled": 499,
    "integrity": 500,
    "audit_unavailable": 503,
    "out_of_resources": 503,
    "missing_extra": 501,
    "engine_failed": 500,
    "network": 502,
    "provider_refused": 502,
}

EXIT_CODE: dict[str, int] = {
    "internal": 70,
    "invalid_input": 2,
    "unsupported": 2,
    "context_overflow": 2,
    "too_large": 2,
    "malformed_file": 65,
    "invalid_config": 78,
    "not_found": 66,
    "conflict": 73,
    "unauthenticated": 77,
    "forbidden": 77,
    "refused": 77,
    "busy": 75,
    "expired": 75,
    "cancelled": 130,
    "integrity": 1,
    "audit_unavailable": 74,
    "out_of_resources": 71,
    "missing_extra": 69,
    "engine_failed": 70,
    "network": 68,
    "provider_refused": 78,
}
