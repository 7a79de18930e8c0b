"""A stand-in for the part of ROS 2's launch that our launch files use.

No wheel of ``launch`` exists. Where ROS 2 is not installed, ``tgrpo-launch PACKAGE FILE name:=value ...`` runs the
unmodified launch file: real processes with the arguments, parameter files, environment and exit codes that
``ros2 launch`` would give them. Whatever is outside the subset is refused (``ImportError``, ``TypeError``), never
ignored.
"""
