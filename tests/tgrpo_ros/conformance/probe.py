"""Writes down how it was started: arguments, parameter files, environment. `--exit N` sets its exit code."""

import json
import os
import sys
from pathlib import Path

import yaml

yaml.SafeLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_yaml_seq)
words = sys.argv[1:]
files = {i for i, word in enumerate(words) if i and words[i - 1] == "--params-file"}
record = {
    "argv": [yaml.safe_load(Path(word).read_text()) if i in files else word for i, word in enumerate(words)],
    "environment": {k: v for k, v in os.environ.items() if k.startswith(("CONFORMANCE_", "RCUTILS_", "PYTHONUNBUF"))},
    "folder": "here" if Path.cwd() == Path(os.environ["CONFORMANCE_HERE"]) else "elsewhere",
}
name = next((w.split(":=")[1] for w in words if w.startswith("__node:=")), words[0] if words else "unnamed")
(Path(os.environ["CONFORMANCE_OUT"]) / f"{name}.json").write_text(json.dumps(record))
sys.exit(int(words[words.index("--exit") + 1]) if "--exit" in words else 0)
