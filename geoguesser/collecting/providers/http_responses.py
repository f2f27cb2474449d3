"""Answers: what a provider sent, and what becomes of a request by it. No URL and no key stands in any of them."""

from __future__ import annotations

from typing import NamedTuple

from geoguesser.errors import ProviderError


class AgainError(Exception):
    """An answer that another attempt may better: its kind, and how long the provider asks to wait."""

    def __init__(self, kind: str, wait_s: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.wait_s = kind, wait_s


class AbsentError(Exception):
    """An answer that is final: what was asked for is not there. Its kind counts as skipped."""


class FailedError(Exception):
    """No attempt worked, or none would, by this kind; a later run asks again."""


class StoppedError(Exception):
    """The user stops; the request was not sent."""


class Reply(NamedTuple):
    """An answer: status, content type in small letters, seconds of Retry-After, body."""

    status: int
    content_type: str
    retry_after_s: float | None
    body: bytes


def by_status(provider: str, reply: Reply, accept: str, *, keyed: bool = True) -> Reply:
    """Deals with what means the same everywhere.

    Args:
        provider: Its name.
        reply: The answer.
        accept: What its content type must begin with.
        keyed: Whether the request bore the key, so that a refusal is of the key and not of this one thing.

    Returns:
        The answer, if it is one of status 200 and the right type.

    Raises:
        AgainError: Another attempt may help.
        AbsentError: What was asked for is not there.
        FailedError: The server does not take this request.
        ProviderError: The key or the account is refused.
    """
    status = reply.status
    if status == 429 or (status == 503 and reply.retry_after_s is not None):
        raise AgainError("too_many_requests", reply.retry_after_s)
    if status >= 500 or status == 408:
        raise AgainError("server_error", reply.retry_after_s)
    if status in (401, 403) and keyed:
        raise ProviderError(
            f"{provider} refuses the key or the account (HTTP {status}). Look at the key, its restrictions, "
            "billing and quota in the provider's console; then run the same command again."
        )
    if status in (404, 410):
        raise AbsentError("not_there")
    if status != 200:  # redirects too: a key must not follow them to another host
        raise FailedError(f"http_{status}")
    if not reply.content_type.startswith(accept):
        raise AgainError("wrong_content_type")
    return reply
