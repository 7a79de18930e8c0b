"""Skills of the scripted expert: pick, place, drawers, stove knob."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sim.expert.geometry import UP, Matrix, Vector, half_turn, leaning, tool_down
from sim.expert.grasps import Grasp
from sim.expert.motion import CLOSE, OPEN, Command, SkillFailedError, close, command, go, hold, hop
from sim.expert.scene import DRAWER_OPEN, KNOB_ON, Scene

HANDLES = {"top": "g18", "middle": "g29", "bottom": "g40"}
"""Geom of the handle bar of each drawer."""
PULLS = ((1.5, -0.012), (1.35, -0.005), (1.2, 0.0), (1.5, -0.008), (1.2, -0.012), (1.5, 0.0), (1.5, 0.006), (1.3, 0.0))
"""Tilt of the gripper [rad] and height relative to the handle [m] of each way to pull a drawer."""
LEANS = ((0.4, 1.0), (0.6, -1.0), (0.2, 1.0), (0.4, -1.0))
"""How far the hand leans away from a drawer [rad] and to which side it turns, of each way to push it shut."""
KNOB_TURNS = ((0.0, 0.012), (np.pi / 2 - 0.3, 0.008), (0.5, 0.004), (-0.5, 0.016))
"""First yaw [rad] and height above the knob's bar [m] of each way to turn a stove's knob."""


def pick(scene: Scene, name: str, grasp: Grasp, *, lift: float = 0.12) -> Iterator[Command]:
    """Takes an object from above and lifts it.

    Args:
        scene: Present state.
        name: Object to take.
        grasp: Where and how.
        lift: How far to lift [m].

    Raises:
        SkillFailedError: The object did not come up.
    """
    rotation = tool_down(grasp.yaw)
    rest = float(scene.position(name)[2])
    obstacle = scene.tallest_between(scene.eef_position(), grasp.position, name)
    height = max(float(grasp.position[2]) + 0.10, obstacle + 0.03)
    yield from hop(scene, grasp.position, rotation, OPEN, height=height)
    yield from close(scene, rotation)
    lifted = scene.eef_position()
    lifted[2] = grasp.position[2] + lift
    yield from go(scene, lifted, rotation, CLOSE, tolerance=0.03, steps=30)
    if scene.position(name)[2] < rest + 0.03:
        raise SkillFailedError(f"{name} was not lifted")


def place(
    scene: Scene, name: str, target: Vector, rotation: Matrix, *, height: float, release: bool = True
) -> Iterator[Command]:
    """Brings the object in the gripper to a point and lets go.

    Args:
        scene: Present state.
        name: Object in the gripper.
        target: Where its body frame goes (x, y) and where its lowest point goes (z) ``(3,)`` [m].
        rotation: Orientation of the gripper ``(3, 3)``.
        height: Least height of the gripper on the way [m].
        release: Whether to open the gripper and to retreat.
    """
    hand = scene.eef_position()
    offset = scene.position(name) - hand
    hang = float(hand[2]) - scene.bottom(name)
    goal = np.array([target[0] - offset[0], target[1] - offset[1], target[2] + hang])
    obstacle = scene.tallest_between(hand, goal, name)
    height = max(goal[2] + 0.05, height, float(hand[2]), min(obstacle + hang + 0.02, hand[2] + 0.15))
    yield from hop(scene, goal, rotation, CLOSE, height=height, tolerance=0.01)
    if release:
        yield from hold(scene, rotation, OPEN, 6)
        yield from go(scene, scene.eef_position() + 0.10 * UP, rotation, OPEN, tolerance=0.03, steps=15)


def drawer_direction(scene: Scene, cabinet: str) -> Vector:
    """Horizontal unit vector in which a cabinet's drawers open ``(3,)``."""
    return -scene.joint_axis(f"{cabinet}_top_level")


def open_drawer(scene: Scene, cabinet: str, level: str, variant: int) -> Iterator[Command]:
    """Pulls a drawer open with a nearly horizontal gripper.

    Args:
        scene: Present state.
        cabinet: Name of the cabinet.
        level: ``top``, ``middle`` or ``bottom``.
        variant: Which of :data:`PULLS`.
    """
    out = drawer_direction(scene, cabinet)
    tilt, rise = PULLS[variant % len(PULLS)]
    approach = -UP * np.cos(tilt) - out * np.sin(tilt)
    closing = out * np.cos(tilt) - UP * np.sin(tilt)
    if out[1] < 0:
        closing = -closing
    rotation = np.stack([closing, np.cross(approach, closing), approach], axis=1)
    target = scene.geom_position(f"{cabinet}_{HANDLES[level]}") + rise * UP
    above = target + out * 0.10
    above[2] = max(1.2, float(target[2]) + 0.05)
    yield from go(scene, above, rotation, OPEN, tolerance=0.04, steps=50)
    yield from go(scene, target - approach * 0.10, rotation, OPEN, tolerance=0.015)
    yield from go(scene, target, rotation, OPEN, tolerance=0.005, steps=30, speed=0.6)
    yield from close(scene, rotation)
    for _ in range(40):
        if scene.joint(f"{cabinet}_{level}_level") < DRAWER_OPEN - 0.016:
            break
        yield command(scene, out * 0.9, rotation, CLOSE, 0.5)
    yield from hold(scene, rotation, OPEN, 5)
    yield from go(scene, scene.eef_position() - approach * 0.06, rotation, OPEN, tolerance=0.02, steps=15)
    yield from go(scene, scene.eef_position() + 0.18 * UP, rotation, OPEN, tolerance=0.05, steps=20)


def close_drawer(scene: Scene, cabinet: str, level: str, variant: int) -> Iterator[Command]:
    """Pushes an open drawer shut with the closed fingers.

    The hand's narrow side faces the cabinet, and it leans back, so that it stays clear of the handles above.
    """
    out = drawer_direction(scene, cabinet)
    lean, side = LEANS[variant % len(LEANS)]
    rotation = leaning(out, lean, side)
    handle = scene.geom_position(f"{cabinet}_{HANDLES[level]}")
    start = handle + out * 0.06
    yield from hop(scene, start, rotation, CLOSE, height=float(handle[2]) + 0.22, tolerance=0.015)
    for _ in range(60):
        rise = (handle[2] - scene.eef_position()[2]) * 5.0
        yield command(scene, -0.9 * out + rise * UP, rotation, CLOSE, 0.5)


def turn_on(scene: Scene, stove: str, variant: int) -> Iterator[Command]:
    """Takes the knob of a stove between the fingers and turns the wrist."""
    yaw, rise = KNOB_TURNS[variant % len(KNOB_TURNS)]
    target = scene.geom_position(f"{stove}_g5")
    target[2] = scene.geom_position(f"{stove}_g19")[2] + rise
    yield from hop(scene, target, tool_down(yaw), OPEN, height=float(target[2]) + 0.12)
    yield from close(scene, tool_down(yaw))
    for turn in np.linspace(0.12, 1.68, 40):
        if scene.joint(f"{stove}_button") >= KNOB_ON + 0.05:
            break
        velocity = 7.0 * (target - scene.eef_position())
        yield command(scene, velocity, tool_down(yaw + turn), CLOSE, 0.25)
    yield from hold(scene, tool_down(yaw), OPEN, 5)
    yield from go(scene, scene.eef_position() + 0.15 * UP, tool_down(0.0), OPEN, tolerance=0.04, steps=20)


def shelve(scene: Scene, name: str, grasp: Grasp, region: str, variant: int) -> Iterator[Command]:
    """Takes a standing book, turns it along a compartment and lowers it into it."""
    yield from pick(scene, name, grasp, lift=0.15)
    across = scene.region_rotation(region)[:, 0]
    yaw = half_turn(float(np.arctan2(-across[0], across[1])))
    if variant >= 3:
        yaw -= float(np.sign(yaw)) * np.pi
    rotation = tool_down(float(np.clip(yaw, -1.5, 1.5)))
    yield from go(scene, scene.eef_position() + 0.05 * UP, rotation, CLOSE, tolerance=0.02)
    slot = scene.position(region)
    height = float(slot[2]) + 0.25
    yield from place(scene, name, slot - 0.04 * UP, rotation, height=height)
