"""TF where tf2 is installed; it comes with ROS 2, and not with the rclpy wheels."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.node import Node


class Transforms:
    """Broadcasts the pose of the tool, or does nothing."""

    def __init__(self, node: Node) -> None:
        """Looks for tf2.

        Args:
            node: That broadcasts.
        """
        self._broadcaster: Any = None
        try:
            from tf2_ros import TransformBroadcaster
        except ImportError:
            return
        self._broadcaster = TransformBroadcaster(node)

    def send(self, pose: PoseStamped, child: str) -> None:
        """Broadcasts a pose as the transform from its frame to another one."""
        if self._broadcaster is None:
            return
        message = TransformStamped(header=pose.header, child_frame_id=child)
        position = pose.pose.position
        moved = message.transform.translation
        moved.x, moved.y, moved.z = position.x, position.y, position.z
        message.transform.rotation = pose.pose.orientation
        self._broadcaster.sendTransform(message)
