"""Errors raised by the service package.

SvdrawError
└── ServiceError
    ├── AddressInUse     the port is already in use
    ├── KeysError        the file of API keys cannot be used
    └── RequestProblem   a request that is answered with an RFC 9457 problem document
"""

from training.base.errors import SvdrawError

__all__ = ["AddressInUse", "KeysError", "RequestProblem", "ServiceError"]


class ServiceError(SvdrawError):
    """Base class of this package's errors."""


class AddressInUse(ServiceError):  # noqa: N818 - says what is the matter
    """The port is already in use."""


class KeysError(ServiceError):
    """The file of API keys cannot be used."""


class RequestProblem(ServiceError):  # noqa: N818
    """A request that is answered with an error.

    Attributes:
        status: HTTP status code.
        detail: what is wrong, and what to do.
        headers: headers to add to the response.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
