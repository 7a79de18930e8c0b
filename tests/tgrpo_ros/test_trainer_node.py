"""The real node in a process of its own, seen through real topics and services; only the training is fake."""

import json
import signal

import pytest

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from tgrpo_ros.trainer_node import LATCHED  # noqa: E402

pytestmark = pytest.mark.ros


class Observer:
    """A client that remembers what it has heard."""

    def __init__(self, ros):
        self.node = ros.create_node("observer")
        self.heard = {"metrics": [], "image": [], "diagnostics": []}

    def listen(self, kind, topic, qos, name):
        self.node.create_subscription(kind, topic, self.heard[name].append, qos)

    def until(self, condition, wait):
        def step():
            rclpy.spin_once(self.node, timeout_sec=0.05)
            return condition()

        return wait(step)

    def call(self, kind, service, wait, request=None):
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, wait)
        future = client.call_async(request or kind.Request())
        self.until(future.done, wait)
        return future.result()


@pytest.fixture
def observer(ros):
    one = Observer(ros)
    yield one
    one.node.destroy_node()


def test_topics_and_services(start, observer, wait, tmp_path):
    run = tmp_path / "run"
    process = start(f"run_dir:={run}", "image_rate:=20.0", "task:='3'", "seed:=5", "train_args:=--lora 'a b'")
    observer.listen(CompressedImage, "/tgrpo_trainer/image/compressed", qos_profile_sensor_data, "image")
    observer.listen(DiagnosticArray, "/diagnostics", 10, "diagnostics")
    observer.until(lambda: observer.heard["image"] and observer.heard["diagnostics"], wait)
    assert observer.heard["image"][0].format == "jpeg"
    assert bytes(observer.heard["image"][0].data).startswith(b"\xff\xd8 picture")
    status = observer.heard["diagnostics"][-1].status[0]
    assert (status.name, status.level) == ("tgrpo_trainer: training", DiagnosticStatus.OK)
    assert {value.key for value in status.values} >= {"state", "iteration", "run_dir"}

    observer.listen(String, "/tgrpo_trainer/metrics", LATCHED, "metrics")  # late: the last one is kept for it
    observer.until(lambda: observer.heard["metrics"], wait)
    assert json.loads(observer.heard["metrics"][0].data)["success_rate"] == 0.5

    assert observer.call(Trigger, "/tgrpo_trainer/pause", wait).success
    paused = lambda: observer.heard["diagnostics"][-1].status[0].level == DiagnosticStatus.WARN  # noqa: E731
    observer.until(paused, wait)
    for word in ("resume", "checkpoint", "stop"):
        assert observer.call(Trigger, f"/tgrpo_trainer/{word}", wait).success
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "a line on stdout" in output
    assert "a line on stderr" in errors
    assert json.loads((run / "heard.json").read_text()) == ["pause", "resume", "checkpoint", "stop"]
    assert json.loads((run / "arguments.json").read_text()) == [
        *("train", "--run-dir", str(run), "--control", "stdin", "--task", "3", "--seed", "5", "--lora", "a b"),
    ]


def test_parameters_are_described_and_read_only(start, observer, wait, tmp_path):
    start(f"run_dir:={tmp_path / 'run'}")
    describe = DescribeParameters.Request(names=["suite", "seed", "image_rate"])
    answer = observer.call(DescribeParameters, "/tgrpo_trainer/describe_parameters", wait, describe)
    assert all(one.description and one.read_only for one in answer.descriptors)
    assert answer.descriptors[1].integer_range[0].from_value == -1
    change = SetParameters.Request(parameters=[Parameter("seed", value=1).to_parameter_msg()])
    answer = observer.call(SetParameters, "/tgrpo_trainer/set_parameters", wait, change)
    assert not answer.results[0].successful


@pytest.mark.parametrize(("words", "code"), [("--exit 3", 3), ("--die", 137), ("", 0)])
def test_exit_code_is_the_childs(start, tmp_path, words, code):
    process = start(f"run_dir:={tmp_path / 'run'}", "iterations:=1", f"train_args:={words or '--quiet'}")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert (f"exit code {code}" in errors) is (code != 0)


@pytest.mark.parametrize("times", [1, 3])
def test_interrupt_stops_the_child_once_and_cleanly(start, wait, tmp_path, times):
    process = start(f"run_dir:={tmp_path / 'run'}")
    wait((tmp_path / "run" / "status.json").exists)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "run" / "heard.json").read_text()) == ["SIGINT"]


def test_child_stops_when_the_node_is_killed(start, wait, tmp_path):
    process = start(f"run_dir:={tmp_path / 'run'}")
    wait((tmp_path / "run" / "status.json").exists)
    process.kill()
    wait((tmp_path / "run" / "heard.json").exists)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ('train_args:="it\'s"', "train_args"),
        ("seed:=-5", "seed"),
        ("iterations:=many", "iterations"),
    ],
)
def test_wrong_parameter_is_one_clear_message(start, tmp_path, parameter, message):
    process = start(f"run_dir:={tmp_path / 'run'}", parameter)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message in errors
    assert "Traceback" not in errors
