"""Take pings over HTTP and make beats of them: the clients are those of Healthchecks and its like.

Enters: pings with their keys, questions of the management API, keys that people make.
Leaves: beats and reports on the bus of a service, and the answers that these clients expect.
Never: a ping without a key that may be used for its service, or one that is answered and lost.
"""

# `answers.py` has what clients are answered, `requests.py` parses what they ask for, `directory.py` finds
# the service that they name and `key_ring.py` the keys that they may use. `writer.py` puts a ping on the
# bus of its service; `desk.py` joins these, adds services and ends pauses. `gate.py` is the ASGI
# application around it, `other_gates.py` is the part of it for other clients than those of Healthchecks.
#
# `management.py` is Healthchecks' management API: `checks.py` shows services as checks and reads their
# pings.
