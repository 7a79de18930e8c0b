"""What the compiler of stage files has to know about kinds of objects and fixtures, measured in LIBERO's scenes.

Distances are between origins, so they contain the sizes of things. An unknown kind gets the default, which suits small
objects; check the result with ``tgrpo reward audit``.
"""

from __future__ import annotations

from typing import NamedTuple


class Grasp(NamedTuple):
    """How an object is held."""

    near: float = 0.05
    """Distance from the hand at which the approach is over [m]."""
    opening: float = 0.07
    """The gripper is opened less than this while it holds the object [m]."""
    hold: float = 0.05
    """Largest distance from the hand of an object that is held [m]."""
    point: str = ""
    """Name of a point to approach instead of the origin."""
    height: float = 0.0
    """Height of that point above the origin [m]."""


class Place(NamedTuple):
    """How an object is put somewhere."""

    near: float = 0.08
    """Horizontal distance at which the way there is over [m]."""
    kept: float = 0.10
    """Horizontal distance at which it counts as lost again [m]."""
    lift: float = 0.05
    """Height that the object should gain on the way [m]."""
    scale: float = 0.10
    """Scale of the shaping towards the final position [m]."""


class Part(NamedTuple):
    """Where the hand acts on a fixture."""

    name: str
    offset: tuple[float, float, float]
    """From the fixture's or region's origin along the world's axes, with LIBERO's orientation of the fixture [m]."""


_MUG = Grasp(0.11, 0.06, 0.12)
GRASPS = {
    "akita_black_bowl": Grasp(0.09, 0.03, 0.10),
    "moka_pot": Grasp(0.10, 0.05, 0.11),
    "white_yellow_mug": _MUG,
    "porcelain_mug": _MUG,
    "red_coffee_mug": _MUG,
    "black_book": Grasp(0.13, 0.06, 0.13),
    "wine_bottle": Grasp(0.05, 0.04, 0.15, "neck", 0.127),
}
"""By kind of object."""

PLACES = {
    "plate": Place(0.06, 0.08, scale=0.05),
    "akita_black_bowl": Place(0.05, 0.07, 0.08, 0.05),
    "basket_contain_region": Place(lift=0.15),
    "flat_stove_cook_region": Place(0.10, 0.12),
    "white_cabinet_bottom_region": Place(scale=0.05),
    "wooden_cabinet_top_region": Place(lift=0.20),
    "wooden_cabinet_top_side": Place(lift=0.20),
    "microwave_heating_region": Place(0.12, 0.15, 0.10),
    "wine_rack_top_region": Place(0.06, 0.10, 0.20),
    "desk_caddy_back_contain_region": Place(0.06, 0.08, 0.15),
}
"""By kind of target."""

PARTS = {
    ("wooden_cabinet_top_region", "open"): Part("handle", (0.010, 0.125, 0.000)),
    ("wooden_cabinet_middle_region", "open"): Part("handle", (0.010, 0.125, -0.005)),
    ("wooden_cabinet_bottom_region", "open"): Part("handle", (0.010, 0.125, 0.000)),
    ("white_cabinet_bottom_region", "close"): Part("front", (0.000, -0.160, 0.000)),
    ("microwave", "close"): Part("front", (-0.210, -0.325, 0.096)),
    ("flat_stove", "turnon"): Part("knob", (-0.020, -0.010, 0.030)),
}
"""By kind of fixture or region, and what is done with it."""

SCENE_PARTS = {
    ("libero_kitchen_tabletop_manipulation", "flat_stove", "turnon"): Part("knob", (-0.010, 0.000, 0.035)),
}
"""The same where a kind of scene needs another point."""
