from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("label", default_value="nobody", description="name of the node"),
            DeclareLaunchArgument("inner", default_value="from the included file"),
            Node(
                package="tgrpo_ros",
                executable="probe",
                name=LaunchConfiguration("label"),
                parameters=[{"inner": LaunchConfiguration("inner")}],
            ),
        ]
    )
