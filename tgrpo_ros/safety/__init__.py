"""The safety layer between any source of commands and the arm; it reduces risk and is no safety function."""

from tgrpo_ros.safety.follower import Follower as Follower
from tgrpo_ros.safety.guard import Guard as Guard
from tgrpo_ros.safety.guard import Output as Output
from tgrpo_ros.safety.ladder import Level as Level
from tgrpo_ros.safety.ladder import Reason as Reason
from tgrpo_ros.safety.settings import SafetySettings as SafetySettings
