"""How much a cluster plays: the formulas of `docs/scale.md` beside an event simulation, 1 to 64 graphics cards.

    python -m benchmarks.capacity --step-ms 2.0 --render-ms 8.1 --batch-ms 4 --item-ms 6

The event simulation plays every rollout: cores that take the next rollout that waits for them, a card that takes all
observations that wait for it, chunks and episode lengths that vary. It shares the measured inputs with the formulas,
and nothing else.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Inputs:
    """What has to be measured, for one node; times in seconds."""

    cores: int
    """That simulate."""
    cards: int
    """That decide."""
    rollouts: int
    """Under way at a time."""
    step: float
    """Processor time of a control step, rewards included."""
    render: float
    """Processor time of the pictures of one observation."""
    send: float
    """Processor time of sending an observation and receiving its chunk."""
    start: float
    """Processor time of beginning a rollout."""
    batch: float
    """Time of a batch on a card."""
    item: float
    """And of each observation in it."""
    chunk: int = 8
    """Control steps of a decision."""
    length: float = 160.0
    """Control steps of an episode, on average."""

    @property
    def work(self) -> float:
        """Processor time of a decision [s]."""
        return self.chunk * self.step + self.render + self.send + self.start * self.chunk / self.length


def predict(inputs: Inputs) -> float:
    """Control steps per second of one node, by the formulas: the least of three bounds.

    Cores that are never idle give ``C H / w``. A card that is never idle takes what gathered while it computed, which
    is all of its ``N / G`` rollouts at most, in ``a + m N / G``. No rollout is faster than ``w + a + m`` a decision.
    """
    own = inputs.rollouts / inputs.cards
    cores = inputs.cores / inputs.work
    cards = inputs.cards * own / (inputs.batch + inputs.item * own)
    alone = inputs.rollouts / (inputs.work + inputs.batch + inputs.item)
    return inputs.chunk * min(cores, cards, alone)


def simulate(inputs: Inputs, seconds: float = 60.0, seed: int = 0, spread: float = 0.3) -> float:
    """Control steps per second of one node, from the events of every rollout.

    Args:
        inputs: The node.
        seconds: Simulated time after a quarter as much to settle [s].
        seed: Of what varies.
        spread: Standard deviation of a decision's processor time beside its mean, and of an episode's length.
    """
    rng = np.random.default_rng(seed)
    shape = 1.0 / spread**2

    def vary(mean: float) -> float:
        return float(rng.gamma(shape, mean / shape))

    def length() -> int:
        return max(1, round(vary(inputs.length / inputs.chunk)))

    left = [length() for _ in range(inputs.rollouts)]
    ready: deque[int] = deque(range(inputs.rollouts))  # wait for a core
    asked: list[deque[int]] = [deque() for _ in range(inputs.cards)]  # wait for their card
    free_cores, idle = inputs.cores, [True] * inputs.cards
    events: list[tuple[float, int, str, int, tuple[int, ...]]] = []
    now, count, decided = 0.0, 0, 0
    settle = seconds / 4.0
    while now < settle + seconds:
        while free_cores and ready:
            rollout, free_cores, count = ready.popleft(), free_cores - 1, count + 1
            left[rollout] -= 1
            busy = vary(inputs.chunk * inputs.step + inputs.render + inputs.send)
            if left[rollout] <= 0:
                left[rollout], busy = length(), busy + inputs.start
            heapq.heappush(events, (now + busy, count, "core", rollout, ()))
        for card in range(inputs.cards):
            if idle[card] and asked[card]:
                batch, idle[card], count = tuple(asked[card]), False, count + 1
                asked[card].clear()
                heapq.heappush(events, (now + inputs.batch + inputs.item * len(batch), count, "card", card, batch))
        now, _, kind, which, batch = heapq.heappop(events)
        if kind == "core":
            free_cores += 1
            asked[which % inputs.cards].append(which)
        else:
            idle[which] = True
            ready.extend(batch)
            decided += len(batch) if now > settle else 0
    return decided * inputs.chunk / seconds


def main() -> None:
    """Prints the table of ``docs/scale.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", type=float, default=2.0)
    parser.add_argument("--render-ms", type=float, default=8.1)
    parser.add_argument("--send-ms", type=float, default=0.31)
    parser.add_argument("--start-ms", type=float, default=0.06)
    parser.add_argument("--batch-ms", type=float, default=4.0)
    parser.add_argument("--item-ms", type=float, default=6.0)
    parser.add_argument("--length", type=float, default=160.0)
    arguments = parser.parse_args()
    times = {
        name: getattr(arguments, f"{name}_ms") / 1e3 for name in ("step", "render", "send", "start", "batch", "item")
    }
    columns = "cards | nodes | cores a card | rollouts a card | limit | model [steps/s] | simulated [steps/s] | off by"
    print(f"| {columns} |")
    print("|---|---|---|---|---|---|---|---|")
    for cards, nodes in ((1, 1), (8, 1), (64, 8)):
        for cores in (2, 4, 8, 16):
            mine = cards // nodes
            node = Inputs(cores=cores * mine, cards=mine, rollouts=4 * cores * mine, length=arguments.length, **times)
            model = nodes * predict(node)
            found = sum(simulate(node, seed=seed) for seed in range(nodes))
            limit = "cores" if predict(node) >= 0.999 * node.cores * node.chunk / node.work else "cards"
            print(
                f"| {cards} | {nodes} | {cores} | {4 * cores} | {limit} | {model:.0f} | {found:.0f} | "
                f"{model / found - 1:+.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
