"""The page of a session: what it shows, what it refuses, and that it works in a browser."""

import http.client
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from tgrpo import jpeg
from tgrpo.errors import SettingsError
from tgrpo.session.live import LivePage

STATE = {
    "name": "bowl on plate", "episode": 3, "total": 20, "outcomes": {"success": 2}, "at": "ready",
    "text": "ready: say go", "task": "put the bowl on the plate", "paused": False, "control": "human", "level": "HOLD",
    "reason": "stale_command", "detail": "human has been silent", "cameras": ["agentview"],
}  # fmt: skip
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def heard():
    return []


@pytest.fixture
def page(heard):
    def say(word, reason):
        if word == "dance":
            raise SettingsError("unknown word 'dance'")
        heard.append((word, reason))

    picture = jpeg.encode(np.full((48, 64, 3), 200, np.uint8))
    one = LivePage(0, lambda: STATE, lambda name: picture if name == "agentview" else None, say)
    yield one
    one.close()


def port(page):
    return int(page.address.rsplit(":", 1)[1].strip("/"))


def ask(page, method, path, body=None, **headers):
    link = http.client.HTTPConnection("127.0.0.1", port(page), timeout=30)
    link.request(method, path, body, headers)
    answer = link.getresponse()
    data = answer.read()
    link.close()
    return answer.status, data, answer


def token(page):
    return re.search(r'name="token" content="([^"]+)"', ask(page, "GET", "/")[1].decode())[1]


def test_it_shows_state_and_pictures(page):
    status, data, answer = ask(page, "GET", "/state.json")
    assert (status, json.loads(data)) == (200, STATE)
    assert answer.getheader("Cache-Control") == "no-store"
    status, data, answer = ask(page, "GET", "/camera/agentview.jpg?5")
    assert (status, answer.getheader("Content-Type")) == (200, "image/jpeg")
    assert jpeg.decode(data, (48, 64, 3)).shape == (48, 64, 3)


@pytest.mark.parametrize("path", ["/camera/other.jpg", "/camera/../live.py", "/../live.html", "/nothing"])
def test_there_is_nothing_else(page, path):
    assert ask(page, "GET", path)[0] == 404


def test_a_button_says_a_word(page, heard):
    body = json.dumps({"word": "failure", "reason": "dropped it"})
    assert ask(page, "POST", "/say", body, **{"X-Session-Token": token(page)})[0] == 200
    assert heard == [("failure", "dropped it")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Session-Token": "guessed"},
        {"X-Session-Token": "TOKEN", "Host": "evil.example"},
        {"X-Session-Token": "TOKEN", "Origin": "http://evil.example"},
    ],
)
def test_another_page_cannot(page, heard, headers):
    real = {name: token(page) if value == "TOKEN" else value for name, value in headers.items()}
    status, data, _ = ask(page, "POST", "/say", json.dumps({"word": "go"}), **real)
    assert status == 403
    assert data in (b"not from this page", b"not from this host")
    assert heard == []


def test_a_rebound_name_does_not_get_the_token(page):
    status, data, _ = ask(page, "GET", "/", Host="evil.example")
    assert status == 403
    assert b"token" not in data


@pytest.mark.parametrize("body", ["", "{", "[]", '"go"', "{}", '{"word": "dance"}', '{"word": "' + "x" * 5000 + '"}'])
def test_what_is_no_word_is_refused(page, heard, body):
    assert ask(page, "POST", "/say", body, **{"X-Session-Token": token(page)})[0] == 400
    assert heard == []


def test_it_listens_on_this_machine_only_and_says_so_if_the_port_is_taken(page):
    assert page.address.startswith("http://127.0.0.1:")
    with pytest.raises(SettingsError, match="cannot listen on port"):
        LivePage(port(page), dict, lambda name: None, lambda word, reason: None)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")
def test_a_browser_shows_it(page, tmp_path):
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path}", "--virtual-time-budget=3000", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *flags, page.address],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    text = done.stdout
    assert "episode 3 of 20" in text, done.stderr[-2000:]
    assert 'class="human">human<' in text
    assert "HOLD · stale_command · human has been silent" in text
    assert 'id="camera-agentview"' in text
    enabled = set(re.findall(r'<button data-word="(\w+)">', text))
    disabled = set(re.findall(r'<button data-word="(\w+)" disabled="">', text))
    assert enabled == {"go", "abort", "pause"}
    assert disabled == {"success", "failure", "resume"}
