"""The working day at an arm: what is to be played, how an episode goes, and what is left after a crash. No ROS here."""
