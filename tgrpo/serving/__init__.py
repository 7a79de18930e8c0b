"""The policy server, `tgrpo serve`.

Read it in this order:

* ``request.py``  one question to the policy and its answer, whoever asks: ZeroMQ, websocket or HTTP;
* ``queue.py``    who is next: fair, within quotas, nothing that is late already;
* ``model.py``    the policy that answers, its version, and what may replace it;
* ``batch.py``    a batch through the policy, so that one bad item spoils no other;
* ``core.py``     the thread of the model, which connects these four;
* ``server.py``   the thread of the data socket (ZeroMQ), with ``clocks.py``, ``zap.py`` (keys) and ``stats.py``;
* ``control.py``  the other socket, for whoever owns the server: replaces the policy;
* ``openpi.py``, ``openvla.py``, ``http.py``  gateways for the clients of other projects, and figures for Prometheus;
* ``command.py``  the command itself.
"""
