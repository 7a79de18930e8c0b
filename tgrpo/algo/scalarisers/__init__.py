"""How several reward terms become the comparison of whole rollouts: one module each.

The setting ``scalariser`` names a module, which has ``scalarise(groups, options)``; see
:class:`tgrpo.algo.strategies.Scalariser`.
"""
