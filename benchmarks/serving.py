"""The policy server, measured: overhead, beside openpi's way, among hostile clients, after a kill, damaged messages.

    python benchmarks/serving.py            # everything, about three minutes
    python benchmarks/serving.py --only overhead openpi

Everything runs over TCP on the loopback interface, server and clients in processes of their own. The model is emulated,
so that the figures are about serving alone.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` and `tgrpo`, also without installing

from benchmarks.mutations import mutated
from benchmarks.serving_parts import Ask, Honest, asking, crowd, free_port, hostile, serving
from tgrpo import wire
from tgrpo.errors import WireError


def share(values: list[float], percent: float) -> float:
    """A percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def round_trips(ask: Ask, count: int) -> list[float]:
    """Times of so many requests, one after the other [ms]."""
    found = []
    for _ in range(count):
        started = time.perf_counter()
        ask()
        found.append((time.perf_counter() - started) * 1000)
    return found


def overhead(count: int) -> None:
    """Round trip of one picture with a model that takes no time, in turns of 50; the echo is what ZeroMQ takes."""
    rows = {"64 px": ("ours", 64), "224 px": ("ours", 224), "224 px, bare ZeroMQ echo": ("echo", 224)}
    print("| picture | min [ms] | p50 [ms] | p95 [ms] | p99 [ms] |\n|---|---|---|---|---|")
    for row, found in in_turns(rows, count).items():
        print(f"| {row} | {' | '.join(f'{share(found, percent):.2f}' for percent in (0, 50, 95, 99))} |")


def in_turns(rows: Mapping[str, tuple[str, int]], count: int) -> dict[str, list[float]]:
    """Round trips [ms] of some servers, each a way and a size of pictures, in turns of 50."""
    times: dict[str, list[float]] = {row: [] for row in rows}
    with contextlib.ExitStack() as stack:
        asks = {}
        for row, (way, size) in rows.items():
            port, _ = stack.enter_context(serving(way, (size, 0, 0)))
            asks[row] = stack.enter_context(asking(way, port, size))
            round_trips(asks[row], 200)
        for _ in range(count // 50):
            for row, ask in asks.items():
                times[row] += round_trips(ask, 50)
    return times


def openpi(count: int) -> None:
    """Round trips of 0.9 MB in turns, and 32 clients of a model that takes 20 ms and 1 ms for each item."""
    side = 554  # a square with the bytes of 640x480
    ways = ("ours", "openpi")
    times = in_turns({way: (way, side) for way in ways}, count)
    rates = {}
    for way in ways:
        with serving(way, (64, 20, 1)) as (port, _):
            rates[way] = throughput(way, port, 32, 5.0)
    print("| server | 0.9 MB, one client: min [ms] | p50 [ms] | p95 [ms] | 32 clients, emulated model [chunks/s] |")
    print("|---|---|---|---|---|")
    for way, name in (("ours", "tgrpo serve"), ("openpi", "openpi's way")):
        figures = " | ".join(f"{share(times[way], percent):.2f}" for percent in (0, 50, 95))
        print(f"| {name} | {figures} | {rates[way]:.0f} |")
    least = min(times["openpi"]) / min(times["ours"])
    middle = share(times["openpi"], 50) / share(times["ours"], 50)
    print(f"| ratio | {least:.1f}x | {middle:.1f}x | | {rates['ours'] / rates['openpi']:.1f}x |")


def throughput(way: str, port: int, clients: int, seconds: float) -> float:
    """Chunks in a second that so many clients get together, each asking again at once."""
    counts = [0] * clients
    start, stop = threading.Barrier(clients + 1), threading.Event()

    def run(place: int) -> None:
        with asking(way, port, 64) as ask:
            start.wait()
            while not stop.is_set():
                ask()
                counts[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    begun = time.monotonic()
    time.sleep(seconds)
    total, took = sum(counts), time.monotonic() - begun
    stop.set()
    for thread in threads:
        thread.join()
    return total / took


@contextlib.contextmanager
def crowded(port: int, clients: int, deadline_ms: float, period: float) -> Iterator[Callable[[], list[Honest]]]:
    """Honest clients in a process of their own; call the result to stop them and learn what they saw."""
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    process = spawn.Process(target=crowd, args=(port, 64, clients, deadline_ms, period, far), daemon=True)
    process.start()

    def stop() -> list[Honest]:
        near.send(None)
        return list(near.recv())

    yield stop
    process.kill()
    process.join()


def hostility(seconds: float) -> None:
    """64 honest clients at 2 Hz, alone and with five hostile ones, 500 ms deadline, 20 ms + 1 ms/item."""
    print("| 64 honest clients at 2 Hz | answered | missed | p50 [ms] | p95 [ms] |\n|---|---|---|---|---|")
    spawn = multiprocessing.get_context("spawn")
    calm = 0.0
    for name in ("alone", "with 5 hostile ones"):
        with serving("ours", (64, 20, 1)) as (port, _):
            bad = spawn.Process(target=hostile, args=(port, 64), daemon=True)
            if name != "alone":
                bad.start()
            with crowded(port, 64, 500.0, 0.5) as stop:
                time.sleep(seconds)
                seen = stop()
            if bad.pid:
                bad.kill()
                bad.join()
        took = [value for one in seen for value in one.took_ms]
        missed = sum(one.failed for one in seen)
        calm = calm or share(took, 95)
        ratio = f" ({share(took, 95) / calm:.2f}x)" if name != "alone" else ""
        print(f"| {name} | {len(took)} | {missed} | {share(took, 50):.0f} | {share(took, 95):.0f}{ratio} |")


def restart(_: float) -> None:
    """SIGKILL with 64 clients, a new server on the port after 1 s: when each is served again, and the longest call."""
    deadline_ms, port = 500.0, free_port()
    with crowded(port, 64, deadline_ms, 0.25) as stop:
        with serving("ours", (64, 20, 1), port):
            time.sleep(6.0)
        time.sleep(1.0)
        with serving("ours", (64, 20, 1), port):
            listening = time.monotonic()
            time.sleep(3.0)
            seen = stop()
    back = sum(one.back_at is not None and one.back_at > listening for one in seen)
    longest = max(one.longest_ms for one in seen)
    print("| clients | served again within 3 s | longest call with a deadline of 500 ms [ms] |\n|---|---|---|")
    print(f"| {len(seen)} | {back} | {longest:.0f} |")


def fuzz(count: int) -> None:
    """Damaged messages through the decoder: what escapes, the slowest one, and memory."""
    escaped, accepted, slowest = 0, 0, 0.0
    for frames in mutated(2000, seed=1):
        with contextlib.suppress(WireError):
            wire.decode_request(frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    for frames in mutated(count):
        started = time.perf_counter()
        try:
            wire.decode_request(frames)
            accepted += 1
        except WireError:
            pass
        except Exception as error:  # noqa: BLE001  this is what is counted
            escaped += 1
            print(f"escaped: {error!r}")
        slowest = max(slowest, time.perf_counter() - started)
    took = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    print("| damaged messages | other errors than WireError | still valid | slowest [ms] | memory [MB] | took [s] |")
    print("|---|---|---|---|---|---|")
    print(f"| {count} | {escaped} | {accepted} | {slowest * 1000:.1f} | +{grown:.1f} | {took:.0f} |")


PARTS: dict[str, tuple[Callable[[Any], None], Any]] = {
    "overhead": (overhead, 3000),
    "openpi": (openpi, 1000),
    "hostility": (hostility, 15.0),
    "restart": (restart, 0.0),
    "fuzz": (fuzz, 200_000),
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    import msgspec
    import numpy
    import websockets
    import zmq

    load = Path("/proc/loadavg").read_text(encoding="utf-8").split()[0]
    versions = ", ".join(f"{one.__name__} {one.__version__}" for one in (zmq, msgspec, numpy, websockets))
    print(f"Python {platform.python_version()}, libzmq {zmq.zmq_version()}, {versions}; load {load} at the start\n")
    for name in arguments.only:
        part, amount = PARTS[name]
        print(f"{name}: {(part.__doc__ or '').splitlines()[0]}\n")
        part(amount)
        print()


if __name__ == "__main__":
    main()
