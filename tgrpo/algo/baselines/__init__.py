"""What a rollout's reward is compared with: one module for each way, chosen by the setting ``baseline``.

A module has ``advantages(group, options)``; see :class:`tgrpo.algo.strategies.Baseline`.
"""
