"""Which rollouts a group consists of, as plans: pure functions of what has been played so far.

A simulator carries a plan out by saving and restoring snapshots. Flat collection, all rollouts from one initial
state, is what :mod:`sim.loop` does; the modules here say where else rollouts may start.
"""
