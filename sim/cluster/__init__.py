"""Rollouts on the machines of a Ray cluster; only these modules import Ray."""
