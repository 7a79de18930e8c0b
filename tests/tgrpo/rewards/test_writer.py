"""Stage files written by a model, against a local server that plays good, malformed, hostile and slow ones."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
import yaml

from tgrpo.errors import SettingsError
from tgrpo.rewards import writer
from tgrpo.rewards.compile import compile_bddl
from tgrpo.rewards.endpoint import Endpoint, EndpointError, ask
from tgrpo.rewards.spec import StageFile

BDDL = """(define (problem scene) (:language put it) (:fixtures table - table) (:objects block_1 - block bin_1 - bin)
(:init (On block_1 table)) (:goal (And (On block_1 bin_1))))"""
TASK = writer.Task("suite", "put_the_block_in_the_bin", BDDL, poses="block_1 starts at 0.1 0.0 0.9")
GOOD = yaml.safe_dump(msgspec.to_builtins(compile_bddl(BDDL, TASK.suite, TASK.task)))
STRANGER = GOOD.replace("block_1/contact", "ghost/contact")
HOSTILE = [
    "!!python/object/apply:os.system ['touch /tmp/owned']",
    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]",
    "[" * 5000,
    GOOD + "evil: __import__('os').system('true')\n",
    GOOD.replace("block_1/distance < 0.05", "__import__('os').system('true') < 0.05"),
    GOOD.replace("0.05", "0.05) or (1"),
    "x" * (writer.MAX_ANSWER + 1),
    "import os; os.remove('/')",
    "",
]


class Model(ThreadingHTTPServer):
    """A server with a list of answers; the last one is repeated."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.prompts, self.headers = [GOOD], [], []
        self.raw, self.code, self.trickle = None, 200, 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.prompts.append(question["messages"][0]["content"])
        server.headers.append((self.path, dict(self.headers)))
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        kinds = {"/v1/chat/completions": {"choices": [{"message": {"content": answer}}]}}
        body = json.dumps(kinds.get(self.path, {"content": [{"text": answer}]})).encode()
        body = body if server.raw is None else server.raw
        self.send_response(server.code)
        if 300 <= server.code < 400:
            self.send_header("Location", "http://127.0.0.1:9/")
        self.end_headers()
        try:
            for start in range(0, len(body), 1000):
                self.wfile.write(body[start : start + 1000])
                time.sleep(server.trickle)
        except OSError:
            return

    def log_message(self, *arguments):
        return


@pytest.fixture
def model():
    server = Model()
    yield server
    server.shutdown()
    server.server_close()


def asked(server, **settings):
    endpoint = Endpoint(model="test", url=server.url, **settings)
    return lambda prompt: ask(endpoint, prompt)


@pytest.mark.parametrize("answer", [GOOD, f"Here it is:\n```yaml\n{GOOD}```\nEnjoy.", json.dumps(yaml.safe_load(GOOD))])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_good_answer_is_accepted_at_once(model, answer, api):
    model.answers = [answer]
    written = writer.write(TASK, asked(model, api=api))
    assert written.stages == compile_bddl(BDDL, TASK.suite, TASK.task)
    assert len(model.prompts) == 1
    for needed in (
        "block_1/distance",
        "(:goal",
        "starts at 0.1",
        "put the block in the bin",
        "predicate/on(block_1,bin_1)",
    ):
        assert needed in model.prompts[0]


def test_errors_go_back_to_the_model(model):
    model.answers = ["no: yaml: here", STRANGER, GOOD]
    written = writer.write(TASK, asked(model))
    assert len(written.rejected) == 2
    assert "not valid YAML" in model.prompts[1]
    assert "'ghost/contact' does not exist" in model.prompts[2]


def test_a_failed_audit_goes_back_too(model):
    verdicts = [["initial states score 0.5, they must be below 0.3."], []]
    writer.write(TASK, asked(model), lambda stages: verdicts.pop(0))
    assert "initial states score 0.5" in model.prompts[1]


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_refused_four_times(model, answer, monkeypatch):
    monkeypatch.setattr("os.system", lambda command: pytest.fail(f"executed {command}"))
    model.answers = [answer]
    with pytest.raises(SettingsError, match="none of 4 answers"):
        writer.write(TASK, asked(model))
    assert len(model.prompts) == 4


def test_an_answer_for_another_task_is_refused():
    with pytest.raises(SettingsError, match="not suite/put_the_block"):
        writer.read(GOOD.replace("suite: suite", "suite: other"), TASK)


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}']
)
def test_malformed_replies(model, raw):
    model.raw = raw
    with pytest.raises(EndpointError, match=r"no answer|without text"):
        asked(model)("hello")


@pytest.mark.parametrize(("code", "message"), [(500, "answered 500"), (401, "answered 401"), (302, "answered 302")])
def test_errors_and_redirects_are_not_followed(model, code, message):
    model.code = code
    with pytest.raises(EndpointError, match=message):
        asked(model)("hello")


def test_endless_replies_are_cut_off(model):
    model.raw = b"x" * 3_000_000
    with pytest.raises(EndpointError, match="longer than"):
        asked(model)("hello")


def test_slow_replies_are_given_up(model):
    model.raw, model.trickle = b"x" * 100_000, 0.2
    started = time.monotonic()
    with pytest.raises(EndpointError, match="took longer"):
        asked(model, timeout=1.0)("hello")
    assert time.monotonic() - started < 5


def test_nobody_there():
    with pytest.raises(EndpointError, match="does not answer"):
        ask(Endpoint(model="test", url="http://127.0.0.1:9/v1", timeout=2), "hello")
    with pytest.raises(SettingsError, match="is not HTTP"):
        ask(Endpoint(model="test", url="file:///etc/passwd"), "hello")


def test_the_key_is_sent_and_never_saved(model, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-2")
    written = writer.write(TASK, asked(model))
    asked(model, api="anthropic")("hello")
    assert model.headers[0][1]["Authorization"] == "Bearer secret-1"
    sent = {name.lower(): value for name, value in model.headers[1][1].items()}
    assert sent["x-api-key"] == "secret-2"
    text = writer.document(written, "test", datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert "secret" not in text
    assert "'test' on 2026-01-02T00:00:00+00:00" in text
    assert "# Prompt:" in text
    assert msgspec.convert(yaml.safe_load(text), StageFile) == written.stages
