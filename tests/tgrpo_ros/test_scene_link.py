"""A link to a scene ends when it is told to, and notices the end of the scene at once."""

import threading

import pytest
import zmq

from tgrpo import sim_link
from tgrpo.errors import RobotFault
from tgrpo_ros.drivers.sim_scene import SceneLink


@pytest.mark.timeout(60)
def test_the_end_of_a_scene_is_noticed_and_closing_does_not_hang(tmp_path):
    address = f"ipc://{tmp_path / 'scene'}"
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.bind(address)

    def end():
        socket.recv_multipart()
        socket.close()
        context.term()

    thread = threading.Thread(target=end)
    thread.start()
    link = SceneLink(address)
    with pytest.raises(RobotFault, match="has ended"):
        link.ask(sim_link.Report(), sim_link.State, 50.0)
    link.close()
    thread.join()
