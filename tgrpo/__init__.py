"""TGRPO for vision-language-action models: the core, which needs neither ROS nor a simulator."""

__version__ = "0.1.0"
