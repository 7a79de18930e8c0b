"""Stands in for franka_ros2 with crisp_controllers: real ROS topics, and an arm that is at its target at once.

Like crisp's controller it listens to `target_pose` only while that has exactly one publisher. Arguments:
`--no-velocities` leaves them out of the joint states, `--reversed` lists the joints from flange to base, `--deaf` does
not listen.
"""

import sys

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

JOINTS = [f"fr3_joint{number}" for number in range(1, 8)]
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]


def main():
    rclpy.init()
    node = rclpy.create_node("controller")
    pose = PoseStamped()
    pose.pose.position.x, pose.pose.position.z, pose.pose.orientation.x = 0.5, 0.3, 1.0
    finger = [0.04]

    def follow(message):
        if node.count_publishers("/target_pose") == 1:
            pose.pose = message.pose

    def grip(message):
        finger[0] = message.data[0]

    def serve(request, answer):
        finger[0] = 0.0 if request.data else 0.04
        answer.success = True
        return answer

    if "--deaf" not in sys.argv:
        node.create_subscription(PoseStamped, "/target_pose", follow, 1)
    node.create_subscription(Float64MultiArray, "/gripper/gripper_position_controller/commands", grip, 1)
    node.create_service(SetBool, "/gripper/close", serve)
    poses = node.create_publisher(PoseStamped, "/current_pose", qos_profile_sensor_data)
    joints = node.create_publisher(JointState, "/joint_states", qos_profile_sensor_data)
    fingers = node.create_publisher(JointState, "/gripper/joint_states", qos_profile_sensor_data)

    def report():
        order = slice(None, None, -1 if "--reversed" in sys.argv else 1)
        state = JointState(name=JOINTS[order], position=[0.1 * index for index in range(7)][order])
        if "--no-velocities" not in sys.argv:
            state.velocity = [0.001 * index for index in range(7)][order]
        poses.publish(pose)
        joints.publish(state)
        fingers.publish(JointState(name=FINGERS, position=finger * 2, velocity=[0.0, 0.0]))

    node.create_timer(0.005, report, clock=rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME))
    print("ready", flush=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
