"""From what is heard to what is recorded: real recorder, real files."""

import numpy as np
import pytest

from tgrpo.record.episode import EpisodeInfo, load
from tgrpo.record.recorder import RecorderSettings
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.steps import steps
from tgrpo.record.streams import Action, Event, Frame, PolicyReply, PolicyRequest, RobotState, Stage
from tgrpo_ros.status import ArmStatus
from tgrpo_ros.tape import Tape
from tgrpo_ros.traffic import Executed, Reply

PERIOD = 0.05
CHUNK = [[0.1 * row] * 7 for row in range(4)]


def executed(step, source="policy", sequence=1, index=0, value=0.0):
    return Executed(at=100.0 + step * PERIOD, source=source, sequence=sequence, index=index, action=[value] * 7)


def reply(sequence=1, **more):
    return Reply(
        sequence=sequence,
        asked=100.0,
        observed=99.99,
        instruction="go",
        latency=0.02,
        version="v1",
        actions=CHUNK,
        **more,
    )


@pytest.fixture
def record(tmp_path):
    """Records what a function does with a tape, and reads it back."""

    def run(work, waits=True, begin=True):
        info = EpisodeInfo(policy="tiny", stage_names=("grasp", "place"))
        path = tmp_path / "session"
        with (
            SessionFolder.create(path, SessionInfo(), RecorderSettings(reserve_mb=0)) as session,
            session.begin(info) as recorder,
        ):
            tape = Tape(recorder, "tiny", info.stage_names, waits=waits)
            if begin:
                tape.begin()
            work(tape)
            tape.finish()
            recorder.close("success")
        return load(path / "episodes" / "000000")

    return run


def test_an_action_knows_its_request_and_its_place(record):
    def work(tape):
        tape.reply(reply())
        for step in range(3):
            tape.executed(executed(step, index=step, value=0.1 * step))

    episode = record(work)
    actions = episode.of(Action)
    assert [(a.step, a.request, a.index, a.source) for a in actions] == [(s, 0, s, "policy") for s in range(3)]
    assert [a.policy for a in actions] == [a.executed for a in actions]
    assert np.diff([a.at.steady for a in actions]).tolist() == [50_000_000] * 2
    (request,), (answer,) = episode.of(PolicyRequest), episode.of(PolicyReply)
    assert (request.request, request.instruction) == (0, "go")
    assert (answer.version, answer.latency, answer.actions) == ("v1", 0.02, CHUNK)
    assert request.at.observed - request.at.steady == -10_000_000  # 10 ms old when it was asked


def test_an_action_that_is_heard_before_its_reply_waits_for_it(record):
    def work(tape):
        tape.executed(executed(0))
        tape.reply(reply())

    (action,) = record(work).of(Action)
    assert (action.request, action.index) == (0, 0)


def test_without_its_reply_an_action_is_recorded_all_the_same(record):
    (action,) = record(lambda tape: tape.executed(executed(0, value=0.5))).of(Action)
    assert (action.request, action.executed) == (-1, [0.5] * 7)


def test_a_take_over_keeps_what_the_policy_wanted_until_its_chunk_ends(record):
    def work(tape):
        tape.reply(reply())
        tape.executed(executed(0, index=0))
        tape.executed(executed(1, index=1, value=0.1))
        for step in range(2, 6):
            tape.executed(executed(step, source="human", sequence=9, value=1.0))
        tape.reply(reply(sequence=2))
        tape.executed(executed(6, sequence=2, index=0))

    episode = record(work)
    table = steps(episode)
    assert table.source == ("policy",) * 2 + ("human",) * 4 + ("policy",)
    assert table.intervention.tolist() == [False] * 2 + [True] * 4 + [False]
    assert table.executed[2:6, 0].tolist() == [1.0] * 4
    assert table.policy[2:4, 0] == pytest.approx([0.2, 0.3])
    assert np.isnan(table.policy[4:6]).all()
    assert [a.request for a in episode.of(Action)] == [0, 0, 0, 0, -1, -1, 1]
    assert [event.kind for event in episode.of(Event)] == ["takeover", "handback"]


def test_the_start_is_the_newest_picture_and_state_before_it(record):
    def work(tape):
        for step, grey in enumerate((10, 20)):
            tape.frame("agentview", np.full((16, 16, 3), grey, np.uint8), 99.0 + step)
            tape.proprio(99.0 + step, np.full(8, step, np.float32))
            tape.executed(executed(-10))  # the way to the start is no part of the episode
        tape.begin()
        tape.executed(executed(0, source="human"))

    episode = record(work, begin=False)
    ((_, image),) = episode.frames("agentview")
    assert abs(int(image[0, 0, 0]) - 20) <= 2
    (state,) = episode.of(RobotState)
    assert state.position == [1.0, 1.0, 1.0]
    assert len(episode.of(Action)) == 1


def test_states_have_the_joints_and_the_reference_of_their_report(record):
    def work(tape):
        tape.joints([0.5] * 7, [0.1] * 7)
        tape.proprio(1.0, np.zeros(8, np.float32))
        tape.reference([0.4, 0.0, 0.3], [0.0, 0.0, 0.1])
        tape.proprio(1.05, np.zeros(8, np.float32))

    first, second = record(work).of(RobotState)
    assert (first.joints, first.commanded_position) == ([0.5] * 7, [0.4, 0.0, 0.3])
    assert second.commanded_position == []


def test_stages_and_the_ladder_become_streams(record):
    def work(tape):
        for level, stage in (("RUN", 0), ("RUN", 1), ("HOLD", 1), ("RUN", 1), ("DECELERATE", 2), ("FAULT", 1)):
            tape.status(ArmStatus(level=level, reason="" if level == "RUN" else "starved", stage=stage))

    episode = record(work)
    assert [(stage.stage, stage.name) for stage in episode.of(Stage)] == [(1, "grasp"), (2, "place"), (1, "")]
    assert [(event.kind, event.reason) for event in episode.of(Event)] == [
        ("hold", "starved"), ("resume", ""), ("stop", "starved"), ("fault", "starved"),
    ]  # fmt: skip


def test_an_event_before_the_first_time_of_the_scene_does_not_shift_the_rest(record):
    def work(tape):
        tape.event("swap", "version 1")
        tape.frame("agentview", np.zeros((16, 16, 3), np.uint8), 500.0)

    episode = record(work)
    (event,), (frame,) = episode.of(Event), episode.messages("/camera/agentview", Frame)
    assert 0 <= frame.at.observed - event.at.observed < 60e9


def test_a_scene_that_waits_is_laid_beside_this_machine_s_clock(record):
    def work(tape):
        tape.frame("agentview", np.zeros((16, 16, 3), np.uint8), 3.0)
        tape.frame("agentview", np.zeros((16, 16, 3), np.uint8), 5.0)

    frames = record(work).messages("/camera/agentview", Frame)
    assert frames[1].at.observed - frames[0].at.observed == pytest.approx(2e9, abs=1e3)
