"""Makes sessions whose every number is known, for the tests of recording, export and report."""

import msgspec
import numpy as np

from tgrpo.record import files, streams
from tgrpo.record.episode import MCAP, EpisodeInfo, EpisodeResult, folder_name, write_header
from tgrpo.record.mcap_file import McapWriter, Raw
from tgrpo.record.recover import EPISODES, append_index
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.streams import Action, Event, Label, PolicyReply, PolicyRequest, RobotState, Stage, Stamp

PERIOD = 50_000_000  # of a control step [ns]
START = 1_000_000_000
WALL = 1_700_000_000_000_000_000
SIZE = 32
INFO = EpisodeInfo(
    policy="old",
    version="v1",
    suite="libero_spatial",
    task=0,
    task_name="put_the_bowl_on_the_plate",
    instruction="put the bowl on the plate",
    pair=0,
    stage_names=("grasp", "place"),
)


def info(**changes):
    """The standard episode with some fields changed."""
    return msgspec.structs.replace(INFO, **changes)


def stamp(step, late=0):
    """The stamp of a control step, ``late`` nanoseconds after its beginning."""
    time = START + step * PERIOD + late
    return Stamp(observed=time, steady=time, wall=WALL + time)


def picture(step, size=SIZE):
    """A picture whose grey tells the control step, and whose upper half is darker."""
    image = np.full((size, size, 3), 40 + step % 200, np.uint8)
    image[: size // 2] //= 2
    return image


def action(step):
    """The executed action of a step ``(7,)``."""
    return [0.1 * np.sin(0.3 * step), 0.01 * step, -0.01 * step, 0.0, 0.0, 0.0, -1.0 if step < 5 else 1.0]


def messages(steps=20, human=(), lag=2, stages=(8, 19), hold=(), cameras=("agentview",)):
    """All messages of an episode: the arm follows its reference ``lag`` steps late.

    Args:
        steps: Control steps.
        human: Steps at which a human is in control.
        lag: Control steps between command and motion.
        stages: Step at which each stage completes.
        hold: Steps at which the arm is held for one step.
        cameras: Their names.
    """
    from tgrpo.record import pictures

    def position(step):
        return [float(0.1 * np.sin(0.25 * max(step, 0))), 0.0, 0.2]

    for step in range(steps):
        for camera in cameras:
            yield streams.frame(camera, pictures.encode(picture(step), "png"), "png", stamp(step, -2_000_000))
        yield RobotState(
            at=stamp(step, -1_000_000),
            position=position(step - lag),
            axis_angle=[0.0, 3.0, 0.0],
            fingers=[0.04, -0.04],
            joints=[0.1 * step] * 7,
            commanded_position=position(step),
            commanded_axis_angle=[0.0, 3.0, 0.0],
        )
        if step % 4 == 0:
            yield PolicyRequest(at=stamp(step), request=step // 4, step=step, instruction=INFO.instruction)
            yield PolicyReply(
                at=stamp(step, 10_000_000),
                request=step // 4,
                policy="old",
                version="v1",
                latency=0.01,
                actions=[action(step + offset) for offset in range(4)],
                tokens=[[1] * 7] * 4,
                log_probs=[[-0.5] * 7] * 4,
            )
        by_human = step in human
        yield Action(
            at=stamp(step, 12_000_000),
            step=step,
            source="human" if by_human else "policy",
            executed=[value + by_human for value in action(step)],
            policy=action(step),
            intervention=by_human,
            request=step // 4,
            index=step % 4,
        )
        if step in hold:
            yield Event(at=stamp(step, 13_000_000), kind="hold", reason="stale_frame", text="no picture for 200 ms")
            yield Event(at=stamp(step + 1, 13_000_000), kind="resume", reason="stale_frame")
        if step in stages:
            done = stages.index(step) + 1
            yield Stage(at=stamp(step, 14_000_000), stage=done, name=INFO.stage_names[done - 1])


def write_episode(session, number, about, outcome, reason="", notes="", **shape):
    """Writes one closed episode without a recorder, so that every byte is the same each time."""
    counts = {}

    def fill(folder):
        writer = McapWriter(folder / MCAP)
        for message in [*messages(**shape), Label(at=stamp(400), outcome=outcome, source="operator", reason=reason)]:
            topic = streams.topic_of(message)
            writer.write(Raw(topic, message.at.steady, streams.encode(message)))
            counts[topic] = counts.get(topic, 0) + 1
        writer.finish()
        result = EpisodeResult(outcome=outcome, reason=reason, notes=notes, messages=counts, duration=2.0)
        write_header(folder, number, about, result)

    append_index(session, "begun", number)
    place = session / EPISODES / folder_name(number)
    files.write_folder(place, fill)
    append_index(session, "closed", number, outcome)
    return place


def write_session(path, episodes, **about):
    """A session from ``(info, outcome, keywords)`` of each episode."""
    with SessionFolder.create(path, SessionInfo(name="bench", **about)):
        for number, (one, outcome, keywords) in enumerate(episodes):
            write_episode(path, number, one, outcome, **keywords)
    return path


def paired_session(path, old="0101010101", new="1111101111", **about):
    """Two policies on the same start states, interleaved as a blind comparison has them."""
    episodes = []
    for pair, (first, second) in enumerate(zip(old, new, strict=True)):
        for name, bit in (("old", first), ("new", second)):
            outcome = "success" if bit == "1" else "failure"
            shape = {} if bit == "1" else {"stages": (8,), "reason": "dropped the bowl", "notes": f"pair {pair}"}
            shape["hold"] = (3,) if pair == 2 else ()
            episodes.append((info(policy=name, pair=pair), outcome, shape))
    for number in range(8):
        human = (*range(2, 5), *range(8, 12)) if number < 3 else range(6, 9) if number == 4 else ()
        episodes.append((info(policy="new", purpose="correct", version="v2"), "success", {"human": human}))
    episodes.append((info(policy="new", pair=3), "infrastructure", {"steps": 4, "reason": "camera unplugged"}))
    episodes.append((info(policy="old", pair=3), "aborted", {"steps": 6, "reason": "operator: scene was wrong"}))
    return write_session(path, episodes, **about)
