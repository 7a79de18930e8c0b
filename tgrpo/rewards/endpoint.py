"""Asking a language model over HTTP, with nothing but the standard library, a time limit and a size limit."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from typing import IO, Annotated, Any, Literal

import msgspec

from tgrpo.errors import SettingsError, TgrpoError
from tgrpo.settings import Strict

MAX_BYTES = 1_000_000
"""Longest reply that is read."""
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""Environment variables that hold the secret; it is sent to the endpoint only, and never written anywhere."""
URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com/v1"}


class EndpointError(TgrpoError, ConnectionError):
    """A model's endpoint did not answer, or not with an answer."""


class Endpoint(Strict, frozen=True):
    """Where a model can be asked."""

    model: str
    """Name of the model there."""
    api: Literal["openai", "anthropic"] = "openai"
    """`openai` is spoken by most servers, local ones too; `anthropic` is the Messages API."""
    url: str = ""
    """Base address, such as `http://127.0.0.1:8000/v1`; the provider's own if not given."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """Longest time for one answer [s]."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 8000
    """Longest answer [tokens]."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the secret to another host."""

    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        """Follows nothing."""


def ask(endpoint: Endpoint, prompt: str) -> str:
    """Sends one prompt and returns the answer's text.

    Args:
        endpoint: Whom to ask.
        prompt: What.

    Raises:
        SettingsError: The address is not HTTP.
        EndpointError: No answer in time, an error, a reply that is too long, or one without text.
    """
    request = _request(endpoint, prompt)
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=endpoint.timeout) as reply:
            body = _read(reply, endpoint.timeout)
    except urllib.error.HTTPError as error:
        raise EndpointError(f"{request.full_url} answered {error.code} {error.reason}.") from error
    except OSError as error:
        raise EndpointError(f"{request.full_url} does not answer: {error}. Check --url and --timeout.") from error
    try:
        data = json.loads(body)
        text = data["choices"][0]["message"]["content"] if endpoint.api == "openai" else data["content"][0]["text"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise EndpointError(f"{request.full_url} replied with something that is no answer: {body[:200]!r}") from error
    if not isinstance(text, str):
        raise EndpointError(f"{request.full_url} replied without text: {body[:200]!r}")
    return text


def _request(endpoint: Endpoint, prompt: str) -> urllib.request.Request:
    base = (endpoint.url or URLS[endpoint.api]).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise SettingsError(f"endpoint {base!r} is not HTTP; write http://HOST:PORT/v1 or https://...")
    key = os.environ.get(KEYS[endpoint.api], "")
    messages = [{"role": "user", "content": prompt}]
    data = {"model": endpoint.model, "max_tokens": endpoint.max_tokens, "messages": messages}
    headers = {"Content-Type": "application/json"}
    if endpoint.api == "openai":
        path = "/chat/completions"
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
    else:
        path = "/messages"
        headers |= {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return urllib.request.Request(base + path, json.dumps(data).encode(), headers)


def _read(reply: IO[bytes], seconds: float) -> bytes:
    """All of a reply; the socket's time limit holds for each read, so a trickle has to be stopped here."""
    end, parts, size = time.monotonic() + seconds, [], 0
    while part := reply.read1(65536) if hasattr(reply, "read1") else reply.read(65536):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise EndpointError(f"the reply is longer than {MAX_BYTES} bytes.")
        if time.monotonic() > end:
            raise EndpointError(f"the reply took longer than {seconds} s.")
    return b"".join(parts)
