"""The wire format: whatever arrives is a valid message or a WireError, and costs no more than it weighs."""

import contextlib
import io
import resource
import struct
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mutations import mutated, samples, sealed
from tgrpo import jpeg, payload, wire
from tgrpo.errors import WireError
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, Observation
from tgrpo.wire import PREFIX

HEAD = {"session": "s", "seq": 1, "clock_ms": 5.0}
SPEC = PolicySpec(observation=ObservationSpec(cameras=("a", "b"), size=24, proprio=True))


def act(tensors, **changes):
    fields = {
        "contract": "c",
        "deadline_ms": 9.5,
        "instruction": "öffne die Schublade",
        "seed": 2**63 - 1,
        "temperature": 0.7,
        **changes,
    }
    return wire.Act(**HEAD, tensors=tensors, **fields)


def observation():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for name in ("a", "b")}
    return Observation(images, "öffne die Schublade", rng.normal(size=8).astype(np.float32))


def sent(message, buffers=(), **options):
    return [bytes(frame) for frame in wire.encode(message, buffers, **options)]


def test_observation_survives():
    shown = observation()
    tensors, buffers = payload.pack_observation(shown)
    message, parts = wire.decode_request(sent(act(tensors), buffers))
    payload.check_observation(message, SPEC)
    again = payload.unpack_observation(message, parts)
    assert message == act(tensors)
    assert again.instruction == shown.instruction
    assert all(np.array_equal(again.images[name], shown.images[name]) for name in shown.images)
    assert np.array_equal(again.proprio, shown.proprio)
    assert not again.images["a"].flags.writeable


@pytest.mark.parametrize("tokens", [True, False])
def test_chunk_survives(tokens):
    rng = np.random.default_rng(1)
    chunk = ActionChunk(rng.normal(size=(8, 7)).astype(np.float32))
    if tokens:
        chunk = ActionChunk(chunk.actions, rng.integers(0, 256, (8, 7)), -rng.random((8, 7)).astype(np.float32))
    tensors, buffers = payload.pack_chunk(chunk)
    reply = wire.Chunk(session="s", seq=1, version="v", queue_ms=0.0, infer_ms=1.0, batch=1, tensors=tensors)
    message, parts = wire.decode_reply(sent(reply, buffers))
    again = payload.unpack_chunk(message, parts, SPEC)
    assert np.array_equal(again.actions, chunk.actions)
    assert (again.tokens is None) == (chunk.tokens is None)
    if tokens:
        assert np.array_equal(again.tokens, chunk.tokens)
        assert np.array_equal(again.log_probs, chunk.log_probs)


def test_a_picture_that_is_a_view_is_sent_as_it_looks():
    shown = observation()
    mirrored = Observation({**shown.images, "a": shown.images["a"][:, ::-1]}, "", shown.proprio)
    tensors, buffers = payload.pack_observation(mirrored)
    message, parts = wire.decode_request(sent(act(tensors), buffers))
    assert np.array_equal(payload.unpack_observation(message, parts).images["a"], mirrored.images["a"])


@pytest.mark.parametrize("message", samples(), ids=["hello", "act"])
def test_every_damaged_byte_is_noticed(message):
    for place, frame in enumerate(message):
        for i in range(len(frame)):
            data = bytearray(frame)
            data[i] ^= 0x10
            with pytest.raises(WireError):
                wire.decode_request([*message[:place], bytes(data), *message[place + 1 :]])


def test_every_damaged_byte_of_a_large_picture_is_noticed():
    """41 x 41 x 3 bytes are 630 words of 64 bits and 3 bytes more; their number and order count too."""
    image = np.random.default_rng(3).integers(0, 256, (41, 41, 3), dtype=np.uint8)
    tensors, buffers = payload.pack_observation(Observation({"a": image}, "open the drawer"))
    head, picture = (bytes(part) for part in sent(act(tensors), buffers))
    assert len(picture) % 8 == 3
    wire.decode_request([head, picture])
    for i in range(len(picture)):
        for damage in (0x01, 0x80):
            data = bytearray(picture)
            data[i] ^= damage
            with pytest.raises(WireError, match="checksum"):
                wire.decode_request([head, bytes(data)])
    for data in (picture[:-8], picture[8:16] + picture[:8] + picture[16:]):
        with pytest.raises(WireError, match="checksum"):
            wire.decode_request([head, data])


def test_20000_mutated_messages_escape_nowhere():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = 0
    for frames in mutated(20_000, seed=1):
        for checked in (True, False):
            try:
                wire.decode_request(frames, checked=checked)
                accepted += 1
            except WireError:
                pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kB more memory"
    assert accepted < 20_000, "most of them are damaged"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_arbitrary_frames(frames, checked):
    for decode in (wire.decode_request, wire.decode_reply):
        with pytest.raises(WireError):
            decode(frames, checked=checked)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["type", "session", "seq", "clock_ms", "deadline_ms", "seed", "tensors", "contract"]), VALUES)
def test_arbitrary_values_in_a_header(field, value):
    frames = samples()[1]
    header = msgspec.msgpack.decode(frames[0][PREFIX.size :])
    header[field] = value
    with contextlib.suppress(WireError):
        wire.decode_request(sealed([frames[0][: PREFIX.size] + msgspec.msgpack.encode(header), *frames[1:]]))


def test_limits_hold_before_anything_is_allocated():
    hello = sent(wire.Hello(**HEAD))
    with pytest.raises(WireError, match="frames"):
        wire.decode_request([])
    with pytest.raises(WireError, match="frames"):
        wire.decode_request([*hello, *[b""] * wire.MAX_FRAMES])
    with pytest.raises(WireError, match="header of"):
        wire.decode_request([b"x" * (wire.MAX_HEADER + 1)])
    with pytest.raises(WireError, match="at most"):
        wire.decode_request([hello[0], *[bytes(2**22)] * 4])
    picture = np.zeros((2400, 2400, 3), np.uint8)
    tensors, buffers = payload.pack_observation(Observation({"a": picture}, ""))
    with pytest.raises(WireError, match="smaller pictures or JPEG"):
        wire.encode(act(tensors), buffers)


@pytest.mark.parametrize(
    "claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_a_claim_of_four_billion_items_costs_nothing(claim):
    header = msgspec.msgpack.encode({"type": "act"})
    for place in (b"", b"\x82\xa4type\xa3act\xa7tensors", b"\x82\xa4type\xa3act\xa7session", header[:1]):
        tracemalloc.start()
        with pytest.raises(WireError):
            wire.decode_request(sealed([samples()[0][0][: PREFIX.size] + place + claim]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "object"},
        {"dtype": "float64"},
        {"shape": (24, 24)},
        {"shape": (24, 24, 3, 1, 1, 1)},
        {"shape": (2**24, 2**24, 2**24)},
        {"shape": (-24, -24, 3)},
        {"codec": "png"},
        {"name": ""},
        {"extra": 1},
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_are_refused(tensor):
    tensors, buffers = payload.pack_observation(Observation({"a": np.zeros((24, 24, 3), np.uint8)}, ""))
    header = msgspec.to_builtins(act(tensors))
    header["tensors"] = [{**header["tensors"][0], **tensor}]
    frames = sealed([samples()[0][0][: PREFIX.size] + msgspec.msgpack.encode(header), *map(bytes, buffers)])
    with pytest.raises(WireError):
        wire.decode_request(frames)


def test_two_tensors_of_one_name_are_refused():
    tensors, buffers = payload.pack_observation(Observation({"a": np.zeros((4, 4, 3), np.uint8)}, ""))
    with pytest.raises(WireError, match="buffers for"):
        wire.decode_request(sent(act(tensors * 2), buffers * 2))


def test_other_versions_and_protocols_are_named():
    [frame] = sent(wire.Hello(**HEAD))
    with pytest.raises(WireError, match="version 9 instead of 3"):
        wire.decode_request([frame[:4] + b"\x09" + frame[5:]])
    with pytest.raises(WireError, match="not a message of this protocol"):
        wire.decode_request([b"GET / HTTP/1.1\r\n\r\n"])


def test_a_plain_connection_insists_on_the_checksum():
    frames = sent(wire.Hello(**HEAD), checked=False)
    assert wire.decode_request(frames, checked=False)[0] == wire.Hello(**HEAD)
    with pytest.raises(WireError, match="checksum"):
        wire.decode_request(frames)


def test_replies_are_not_requests():
    frames = sent(wire.Refusal(session="s", seq=1, code="busy", message=""))
    assert isinstance(wire.decode_reply(frames)[0], wire.Refusal)
    with pytest.raises(WireError):
        wire.decode_request(frames)


def test_a_request_must_show_what_the_policy_needs():
    for shown in (
        Observation({"a": np.zeros((24, 24, 3), np.uint8)}, "", np.zeros(8, np.float32)),
        Observation({name: np.zeros((24, 24, 3), np.uint8) for name in "abc"}, "", np.zeros(8, np.float32)),
        Observation({name: np.zeros((25, 24, 3), np.uint8) for name in "ab"}, "", np.zeros(8, np.float32)),
        Observation({name: np.zeros((24, 24, 3), np.uint8) for name in "ab"}, "", np.zeros(7, np.float32)),
        Observation({name: np.zeros((24, 24, 3), np.uint8) for name in "ab"}, ""),
    ):
        with pytest.raises(WireError, match="the policy needs image/a uint8"):
            payload.check_observation(act(payload.pack_observation(shown)[0]), SPEC)
        with pytest.raises(WireError, match="the policy needs image/a uint8"):
            payload.check_shown(shown, SPEC)


def test_numbers_must_be_finite():
    shown = observation()
    shown.proprio[2] = np.inf
    tensors, buffers = payload.pack_observation(shown)
    message, parts = wire.decode_request(sent(act(tensors), buffers))
    with pytest.raises(WireError, match="not finite"):
        payload.unpack_observation(message, parts)


def test_a_chunk_must_follow_the_card():
    for actions in (np.zeros((7, 7)), np.zeros((8, 6)), np.full((8, 7), np.nan)):
        tensors, buffers = payload.pack_chunk(ActionChunk(actions))
        reply = wire.Chunk(session="s", seq=1, version="v", queue_ms=0.0, infer_ms=1.0, batch=1, tensors=tensors)
        message, parts = wire.decode_reply(sent(reply, buffers))
        with pytest.raises(WireError):
            payload.unpack_chunk(message, parts, SPEC)


def jpeg_request(data, shape=(24, 24, 3)):
    tensor = wire.Tensor(name="image/a", dtype="uint8", shape=shape, codec="jpeg")
    return wire.decode_request(sent(act((tensor,)), [data]))


def test_jpeg_pictures():
    pytest.importorskip("PIL")
    smooth = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None] * 8, (24, 24, 3)).copy()
    tensors, buffers = payload.pack_observation(Observation({"a": smooth}, ""), "jpeg")
    message, parts = wire.decode_request(sent(act(tensors), buffers))
    again = payload.unpack_observation(message, parts).images["a"]
    assert np.abs(again.astype(int) - smooth).max() <= 6


def test_jpeg_that_is_another_picture_than_announced_is_refused_before_it_is_decoded():
    pil = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    pil.new("RGB", (8, 8)).save(stream, "JPEG")
    bomb = bytearray(stream.getvalue())
    place = bomb.index(b"\xff\xc0") + 5
    bomb[place : place + 4] = struct.pack(">HH", 65500, 65500)  # claims 12.9 GB of pixels
    for data, match in ((bomb, "announced|damaged"), (stream.getvalue(), "announced"), (b"\xff\xd8garbage", "damaged")):
        message, parts = jpeg_request(bytes(data))
        with pytest.raises(WireError, match=match):
            payload.unpack_observation(message, parts)
    png = io.BytesIO()
    pil.new("RGB", (24, 24)).save(png, "PNG")
    message, parts = jpeg_request(png.getvalue())
    with pytest.raises(WireError, match="damaged"):
        payload.unpack_observation(message, parts)


def test_jpeg_is_for_pictures_of_a_sensible_size():
    with pytest.raises(WireError, match="of JPEG"):
        jpeg_request(b"", (24, 24, 3))
    with pytest.raises(WireError, match="of JPEG"):
        jpeg_request(b"x" * 5000, (24, 24, 3))
    with pytest.raises(WireError, match="of JPEG"):
        jpeg_request(b"x", (24, 24))


def test_without_pillow_jpeg_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(jpeg, "available", lambda: False)
    with pytest.raises(ImportError, match="pip install pillow"):
        payload.pack_observation(observation(), "jpeg")
    message, parts = jpeg_request(b"x")
    with pytest.raises(WireError, match="codec='raw'"):
        payload.unpack_observation(message, parts)
