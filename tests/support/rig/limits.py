"""Takes the limits of our servers off: a bus that somebody else runs may have none."""

from support.rig import Server
from support.waiting import PATIENT_SEC


def without_limits(server: Server) -> None:
    """Let the server take and keep what it never would as `marketswarm up` starts it."""
    for name, value in {
        "maxmemory": "0",
        "maxmemory-clients": "0",
        "proto-max-bulk-len": "512mb",
        "client-query-buffer-limit": "1gb",
        "client-output-buffer-limit": "normal 0 0 0 pubsub 0 0 0",
    }.items():
        server.cmd("CONFIG", "SET", name, value, within=PATIENT_SEC)  # it may be busy with 110 MB
