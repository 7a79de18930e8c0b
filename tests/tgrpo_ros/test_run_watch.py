import os

from tgrpo_ros.run_watch import FrameWatch, MetricsTail, read_status


def test_tail_hands_out_complete_lines_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == []
    path.write_text('{"a": 1}\n{"a": 2')
    assert tail.read() == ['{"a": 1}']
    assert tail.read() == []
    with path.open("a") as file:
        file.write('}\n{"a": 3}\n')
    assert tail.read() == ['{"a": 2}', '{"a": 3}']


def test_tail_starts_again_when_the_file_was_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("1\n2\n3\n")
    tail = MetricsTail(path)
    tail.read()
    path.write_text("1\n")
    assert tail.read() == ["1"]


def test_frame_only_when_new_and_due(tmp_path):
    path = tmp_path / "frame.jpg"
    watch = FrameWatch(path, period=1.0)
    assert watch.read(0.0) is None
    path.write_bytes(b"one")
    assert watch.read(0.1) == b"one"
    assert watch.read(5.0) is None
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert watch.read(5.0) == b"two"
    path.write_bytes(b"three")
    assert watch.read(5.9) is None
    assert watch.read(6.0) == b"three"


def test_status_before_the_run_has_one(tmp_path):
    assert read_status(tmp_path / "status.json") == {"state": "starting"}
    (tmp_path / "status.json").write_text('{"state": "training"}')
    assert read_status(tmp_path / "status.json") == {"state": "training"}
