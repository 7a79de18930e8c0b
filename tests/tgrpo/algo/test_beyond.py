"""Latents, what is adapted to before an episode, arbitration, looking ahead, and the experimental conductor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from tgrpo.algo import arbitration, latent, lookahead, maestro
from tgrpo.algo.loss import clipped_objective
from tgrpo.errors import SimulationError
from tgrpo.types import ActionChunk, Observation


def close(actual, expected, atol=1e-4):
    torch.testing.assert_close(torch.as_tensor(actual).double(), torch.as_tensor(expected).double(), atol=atol, rtol=0)


def test_latent_known_answers():
    z = latent.draw(1, 12, torch.Generator().manual_seed(0)).double()
    close(latent.log_likelihood(z, z), [0.5837])
    close(latent.bonus(z, z + latent.SPREAD), [-0.0271])
    assert not latent.bonus(z, z + 1, beta=0.0).any()


def bandit(seed, latent_dims):
    """Final place of a policy on [-2, 2] with a near hill of 0.5 at -1 and a far one of 1 at +1.5."""
    generator = torch.Generator().manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(max(latent_dims, 1), 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.randn(part.shape, generator=generator) * (2.0 if latent_dims else 0.1))
        net[2].bias.fill_(-1.0)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)

    def reward(x):
        return 0.5 * (-((x + 1) ** 2) / 0.3).exp() + (-((x - 1.5) ** 2) / 0.3).exp()

    for _ in range(200):
        z = torch.randn(128, max(latent_dims, 1), generator=generator) * (1.0 if latent_dims else 0.0)
        mean = net(z)
        place = mean.detach() + 0.2 * torch.randn(mean.shape, generator=generator)
        gain = reward(place)
        loss = (((place - mean) / 0.2) ** 2 / 2 * (gain - gain.mean())).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    z = torch.randn(64, max(latent_dims, 1), generator=generator) * (1.0 if latent_dims else 0.0)
    return float(reward(net(z)).max().detach())


def test_a_latent_policy_finds_the_far_hill_where_a_gaussian_stays_on_the_near_one():
    assert all(bandit(seed, 0) < 0.6 for seed in range(4))
    assert all(bandit(seed, 4) > 0.9 for seed in range(4))


def test_diversity_between_latents():
    outcomes, groups = torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1])
    between, within = latent.diversity(outcomes, groups)
    assert between > 10 * within > 0


def test_hysteresis_known_answer():
    mode = arbitration.Hysteresis()
    assert [int(mode.update(distance)) for distance in (0.15, 0.10, 0.079, 0.10, 0.13)] == [0, 0, 1, 1, 0]


def chunk(value):
    return ActionChunk(np.full((1, 7), value, np.float32), np.zeros((1, 7), np.int64), np.zeros((1, 7), np.float32))


@dataclass
class Fixed:
    source: arbitration.Source
    answer: ActionChunk | None


VIEW = Observation({}, "push", np.zeros(8, np.float32))


@dataclass
class Always(Fixed):
    def propose(self, observation):
        return self.answer


def test_the_first_in_the_order_who_wants_to_act_does():
    human, policy = Always("human", None), Always("policy", chunk(1))
    planner = arbitration.Approach(lambda view: 0.2, lambda view: chunk(2), arbitration.Hysteresis())
    assert arbitration.arbitrate([policy, planner, human], VIEW)[1] == "planner"
    planner.distance = lambda view: 0.05
    assert arbitration.arbitrate([policy, planner, human], VIEW)[1] == "policy"
    human.answer = chunk(3)
    assert arbitration.arbitrate([policy, planner, human], VIEW)[1] == "human"
    with pytest.raises(LookupError, match="add the policy"):
        arbitration.arbitrate([Always("human", None)], VIEW)


def test_values_choose_between_imitation_and_reinforcement():
    imitation, reinforcement = chunk(0), chunk(1)
    assert arbitration.by_value([0.62, 0.70], [imitation, reinforcement]) is reinforcement


def test_steps_of_others_have_no_gradient():
    torch.manual_seed(0)
    old, gains = torch.randn(4, 2, 7), torch.tensor([1.0, -1.0, 0.5, 0.2])
    new = (old + 0.05).requires_grad_()
    mask = arbitration.own_actions(np.ones((4, 2), bool), ["policy", "planner", "policy", "human"])
    weights = torch.full((4,), 0.5)
    clipped_objective(new, old, gains, mask=torch.from_numpy(mask), weights=weights).loss.backward()
    assert not new.grad[[1, 3]].any()
    alone = (old[[0, 2]] + 0.05).requires_grad_()
    clipped_objective(alone, old[[0, 2]], gains[[0, 2]], weights=weights[:2]).loss.backward()
    torch.testing.assert_close(new.grad[[0, 2]], alone.grad, atol=1e-6, rtol=0)
    assert arbitration.without_log_probs(chunk(1)).log_probs is None


def test_lookahead_known_answers():
    returns = np.array([1.0, 0.5, 0.0])
    close(lookahead.weights(returns), [0.5065, 0.3072, 0.1863])
    close(lookahead.blended(returns, np.array([0.4, -0.2, 0.0])), 0.1412)
    close([lookahead.loss_bound(h, 0.99, 0.1) for h in (1, 3, 10)], [19.8, 6.5338, 1.8917])


LAYERS, WIDTH = 5, 6


@dataclass
class Maze:
    """A random decision process of five layers, then the end; two actions."""

    moves: np.ndarray
    pay: np.ndarray
    at: tuple[int, int] = (0, 0)
    earned: float = 0.0

    def snapshot(self):
        return self.at

    def restore(self, snapshot):
        self.at = snapshot

    def state_hash(self):
        return str(self.at)

    def step(self, action):
        layer, place = self.at
        choice = int(action[0])
        self.earned = self.pay[layer, place, choice]
        self.at = (layer + 1, int(self.moves[layer, place, choice]))
        return self.at[0] == LAYERS


def test_looking_ahead_to_the_end_needs_no_exact_values():
    rng = np.random.default_rng(0)
    moves, pay = rng.integers(0, WIDTH, (LAYERS, WIDTH, 2)), rng.uniform(0, 1, (LAYERS, WIDTH, 2))
    exact = np.zeros((LAYERS + 1, WIDTH))
    for layer in reversed(range(LAYERS)):
        exact[layer] = (pay[layer] + exact[layer + 1][moves[layer]]).max(1)
    wrong = exact + rng.uniform(-2, 2, exact.shape)
    losses = []
    for horizon in (1, 3, 5):
        reached = np.zeros((LAYERS + 1, WIDTH))
        plans = [np.array(plan)[:, None] for plan in itertools.product((0, 1), repeat=horizon)]
        for layer in reversed(range(LAYERS)):
            for place in range(WIDTH):
                maze = Maze(moves, pay, (layer, place))
                returns = lookahead.try_out(maze, plans, lambda m=maze: m.earned, lambda m=maze: wrong[m.at])
                choice = int(plans[int(np.argmax(returns))][0, 0])
                reached[layer, place] = pay[layer, place, choice] + reached[layer + 1, moves[layer, place, choice]]
        losses.append(float((exact - reached).max()))
    assert min(losses[:2]) > 1.0  # without discount nothing says that three steps lose less than one
    assert losses[2] == pytest.approx(0.0, abs=1e-9)


@dataclass
class Counter:
    """A simulator on a line."""

    place: float = 0.0
    leaks: bool = False
    trace: list[float] = field(default_factory=list)

    def snapshot(self):
        return self.place

    def restore(self, snapshot):
        self.place = snapshot + (0.1 if self.leaks else 0.0)

    def step(self, action):
        self.place += float(action[0])
        return self.place >= 2.0

    def state_hash(self):
        return str(self.place)


def test_trying_out_chunks_leaves_the_simulator_where_it_was():
    world = Counter()
    chunks = [np.full((3, 7), size, np.float32) for size in (0.5, 1.0, -1.0)]
    returns = lookahead.try_out(world, chunks, lambda: world.place, lambda: 10.0)
    close(returns, [0.5 + 1.0 + 1.5 + 10, 1.0 + 2.0, -6.0 + 10])
    assert world.place == 0.0
    with pytest.raises(SimulationError, match="incomplete"):
        lookahead.try_out(Counter(leaks=True), chunks, lambda: 0.0)


def test_the_best_safe_candidate():
    returns, costs = np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.2, 0.1])
    assert lookahead.safe(returns, costs, limit=0.5) == 1
    assert lookahead.safe(returns, costs, limit=0.15, fewest=2) == 2


PATTERNS = torch.tensor([[0.8, 0.2], [0.2, 0.8]])


def test_conductor_known_answers():
    close(maestro.probabilities(torch.tensor([1.0, 0.0]), 0.5), [0.8808, 0.1192])
    returns, half = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), torch.tensor([0.5, 0.5])
    same, mixed = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1, 0, 1])
    gains = maestro.mixed_advantages(returns, PATTERNS, same)
    close(gains, [0.8660, 0.8660, -0.8660, -0.8660])
    close(maestro.meta_gradient(gains, same, half), [0.0, 0.0])
    close(maestro.mixed_advantages(returns, PATTERNS, mixed), [0.8660, -0.8660, -0.8660, 0.8660])


def test_raw_terms_teach_to_emphasise_what_is_already_solved():
    returns, drawn = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 1, 0, 1])
    gains = maestro.mixed_advantages(returns, PATTERNS, drawn)
    close(gains, [0.8660, -0.8660, 0.8660, -0.8660])
    close(maestro.meta_gradient(gains, drawn, torch.tensor([0.5, 0.5])) / 2, [0.8660, -0.8660])


@pytest.mark.parametrize("success", [0.3, 0.5, 0.7])
def test_the_conductor_keeps_the_weight_of_success_above_its_floor(success):
    rng = np.random.default_rng(0)
    conductor = maestro.Conductor(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), floor=0.4)
    for _ in range(600):
        solved = torch.tensor(rng.random(8) < success, dtype=torch.float64)
        chances = maestro.probabilities(conductor.scores, 1.0).numpy()
        drawn = torch.tensor(rng.choice(2, 8, p=chances / chances.sum()))
        conductor.update(torch.stack([torch.ones(8, dtype=torch.float64), solved], dim=1), drawn)
        weights = conductor.weights()
        assert float(weights[-1]) >= 0.4 - 1e-9
        assert float(weights.sum()) == pytest.approx(1.0)
