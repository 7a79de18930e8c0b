"""Parameters of nodes, each with a description and a range that ROS checks."""

from __future__ import annotations

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

BIGGEST = 2**31 - 1


@dataclass(frozen=True)
class Option:
    """One parameter; read-only unless it says otherwise."""

    name: str
    default: str | int | float | bool
    description: str
    low: int | float = 0
    """Least value of a number."""
    high: int | float = BIGGEST
    """Greatest value of a number."""
    dynamic: bool = False
    """Whether it may be changed while the node runs."""

    def descriptor(self) -> ParameterDescriptor:
        """How ROS describes and checks the parameter."""
        result = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
        if isinstance(self.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=float(self.low), to_value=float(self.high))]
        elif isinstance(self.default, int) and not isinstance(self.default, bool):
            result.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return result


ROBOT = (
    Option("robot", "sim", "robot configuration: sim, fr3, panda, or the path of a YAML file"),
    Option("workspace", "", "YAML file with low and high of the box that the tool may be in; real robots need it"),
    Option("scene", "", "address of a simulated scene, for the robot sim: that of `tgrpo sim-robot`"),
)
"""What every node of a robot has to know."""
