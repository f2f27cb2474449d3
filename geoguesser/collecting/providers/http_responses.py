"""HTTP response of a provider, and the errors that a request can end with.

None of these classes holds a URL, because a URL may contain an API key.
"""

from __future__ import annotations

from typing import NamedTuple

from geoguesser.errors import ProviderError


class RetryableError(Exception):
    """Failed attempt that is worth repeating, after a waiting time if the provider asked for one."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


class NotFoundError(Exception):
    """Final answer that the requested item does not exist. Its text is the reason recorded for skipping."""


class RequestFailedError(Exception):
    """Request without a usable answer after its last attempt. The next run sends it again."""


class CancelledError(Exception):
    """Request that was not sent because the run is stopping."""


class HttpResponse(NamedTuple):
    """Status, content type in lower case, seconds of the Retry-After header, and body."""

    status: int
    content_type: str
    retry_after_s: float | None
    body: bytes


def check_status(provider: str, response: HttpResponse, content_type: str, *, authenticated: bool = True) -> None:
    """Raises the error that a status code, or another beginning of the content type, means for every provider.

    A 401 or 403 means that the key or the account is refused if the request carried the key (`authenticated`),
    otherwise that this one item is.
    """
    status = response.status

    if status == 429 or (status == 503 and response.retry_after_s is not None):
        raise RetryableError("too_many_requests", response.retry_after_s)
    if status >= 500 or status == 408:
        raise RetryableError("server_error", response.retry_after_s)

    if status in (401, 403) and authenticated:
        raise ProviderError(
            f"{provider} refuses the key or the account (HTTP {status}). Check the key, its restrictions, billing "
            "and quota in the provider's console, then run the same command again."
        )
    if status in (404, 410):
        raise NotFoundError("not_there")

    # Redirects fail too: following one could send the key to another host.
    if status != 200:
        raise RequestFailedError(f"http_{status}")
    if not response.content_type.startswith(content_type):
        raise RetryableError("wrong_content_type")
