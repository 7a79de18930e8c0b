"""Reads a dataset with lerobot itself and prints what it found as JSON. Usage: python read_lerobot.py FOLDER."""

import json
import sys

from lerobot.datasets.lerobot_dataset import LeRobotDataset


def main():
    dataset = LeRobotDataset("local/exported", root=sys.argv[1], video_backend="pyav")
    item = dataset[5]
    found = {
        "frames": dataset.num_frames,
        "episodes": dataset.num_episodes,
        "task": item["task"],
        "action": item["action"].tolist(),
        "grey": float(item["observation.images.agentview"][0, -1, 0]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
