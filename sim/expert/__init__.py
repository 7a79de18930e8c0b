"""A scripted expert: solves LIBERO tasks from the simulator's state and makes demonstrations of it."""

from sim.expert.collect import collect as collect
from sim.expert.collect import demonstrate as demonstrate
from sim.expert.noise import NoiseSettings as NoiseSettings
