"""Gateway for clients of OpenVLA's and OpenVLA-OFT's ``/act``: JSON over HTTP with arrays as json-numpy writes them.

* OpenVLA asks with ``image``, ``instruction`` and perhaps ``unnorm_key``, and gets one action ``(A,)``.
* OpenVLA-OFT asks with ``full_image``, ``wrist_image``, ``state``, ``instruction``, and gets a list of ``K`` actions.

The first picture is the policy's first camera, the wrist's its second. Errors have a status and say why.
"""

from __future__ import annotations

import base64
import binascii
import threading
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tgrpo.errors import WireError
from tgrpo.serving import gateway
from tgrpo.serving.core import Core
from tgrpo.serving.http import Response, failure
from tgrpo.serving.request import Refused
from tgrpo.settings import Strict
from tgrpo.types import Observation

STATUS = {"invalid": 400, "busy": 429, "policy": 500, "stopping": 503, "expired": 504}


class _Array(Strict, frozen=True):
    data: str = msgspec.field(name="__numpy__")
    dtype: str
    shape: Annotated[list[int], Meta(max_length=3)]


class _Question(Strict, frozen=True):
    instruction: Annotated[str, Meta(max_length=4096)]
    image: _Array | None = None
    full_image: _Array | None = None
    wrist_image: _Array | None = None
    state: _Array | None = None
    unnorm_key: str | None = None


class _Encoded(Strict, frozen=True):
    encoded: str


class OpenVlaGateway:
    """The route ``POST /act``."""

    def __init__(self, core: Core, deadline_ms: float) -> None:
        """Prepares the route.

        Args:
            core: Decides.
            deadline_ms: Time that a request may take [ms]; its protocol has none of its own.
        """
        self._core = core
        self._deadline_ms = deadline_ms

    def act(self, body: bytes) -> Response:
        """Answers one request."""
        try:
            question, double = _read(body)
            observation = self._observation(question)
        except (WireError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._core.counters.add("damaged")
            return failure(400, "invalid", f"{error}")
        outcome = gateway.ask(self._core, threading.get_ident(), observation, self._deadline_ms)
        if isinstance(outcome, Refused):
            return failure(STATUS.get(outcome.code, 500), outcome.code, outcome.message)
        actions = outcome.chunk.actions
        answer = _written(actions[0]) if question.image is not None else [_written(action) for action in actions]
        text = msgspec.json.encode(answer)
        return Response(msgspec.json.encode(text.decode()) if double else text)

    def _observation(self, question: _Question) -> Observation:
        model = self._core.model
        if question.unnorm_key is not None and question.unnorm_key != model.normalisation:
            raise WireError(
                f"unnorm_key {question.unnorm_key!r}: this policy has the normalisation {model.normalisation!r}; "
                "leave the key out."
            )
        if (question.image is None) == (question.full_image is None):
            raise WireError("give either image (OpenVLA) or full_image (OpenVLA-OFT).")
        cameras = model.policy.spec.observation.cameras
        given = [question.image or question.full_image, question.wrist_image]
        pictures = [_array(picture) for picture in given if picture is not None]
        if len(pictures) != len(cameras):
            raise WireError(f"{len(pictures)} pictures; the policy looks through {', '.join(cameras) or 'no camera'}.")
        state = None if question.state is None else gateway.proprio(_array(question.state))
        return Observation(dict(zip(cameras, pictures, strict=True)), question.instruction, state)


def _read(body: bytes) -> tuple[_Question, bool]:
    """The question, and whether it was JSON within JSON, as clients of OpenVLA may send it and want it back."""
    if b'"encoded"' in body[:64]:
        return msgspec.json.decode(msgspec.json.decode(body, type=_Encoded).encoded, type=_Question), True
    return msgspec.json.decode(body, type=_Question), False


def _array(given: _Array) -> NDArray[Any]:
    try:
        data = base64.b64decode(given.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"an array is no base64: {error}.") from error
    return gateway.array(data, given.dtype, given.shape)


def _written(array: NDArray[np.float32]) -> dict[str, Any]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": list(array.shape)}
