"""Stands in for the command `tgrpo`: obeys the same control words and writes the same files, without a simulator."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

arguments = sys.argv[1:]
run = Path(arguments[arguments.index("--run-dir") + 1])
iterations = int(arguments[arguments.index("--iterations") + 1]) if "--iterations" in arguments else 100_000
heard = []
stopping = threading.Event()


def write(name, data):
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def listen():
    for line in sys.stdin:
        heard.append(line.strip())
        if line.strip() == "stop":
            stopping.set()
    stopping.set()


def interrupted(*_):
    heard.append("SIGINT")
    if "--deaf" not in arguments:
        stopping.set()


signal.signal(signal.SIGINT, interrupted)
threading.Thread(target=listen, daemon=True).start()
write("arguments.json", json.dumps(arguments).encode())
print("a line on stdout")
print("a line on stderr", file=sys.stderr)
for iteration in range(iterations):
    if stopping.is_set():
        break
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": iteration, "success_rate": 0.5, "loss": -0.25}) + "\n")
    state = "paused" if "pause" in heard else "training"
    status = {"state": state, "iteration": iteration, "iterations": iterations, "message": "busy"}
    write("status.json", json.dumps(status).encode())
    write("live/frame.jpg", b"\xff\xd8 picture %d" % iteration)
    time.sleep(0.05)
write("heard.json", json.dumps(heard).encode())
if "--die" in arguments:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(arguments[arguments.index("--exit") + 1]) if "--exit" in arguments else 0)
