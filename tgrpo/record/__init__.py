"""What a run leaves behind: checkpoints, metrics, videos, statistics and the report. Needs no torch."""
