"""LIBERO on MuJoCo, rollouts and the training loop; knows nothing of ROS."""
