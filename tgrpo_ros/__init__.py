"""ROS 2 nodes and launching. Importing this package does not import rclpy."""
