"""Real servers, real agents, and a wire that can be cut, for live tests to break. Everything ends by its pid.

| part       | faults it has                                                              |
| ---------- | -------------------------------------------------------------------------- |
| `Server`   | kill (-9), stop, freeze/thaw, restart on the same port                     |
| `Proc`     | kill (-9), stop, freeze/thaw; its log lines as JSON                        |
| `TcpProxy` | cut (reset), swallow (half-open), delay, refuse; on some connections only  |
| `Fleet`    | two servers, seeded, with agents: the usual scene                          |
| `Refusal`  | a server that runs and refuses, in a dozen ways, TLS too (`refusing_servers`) |

All but `auntil` may be used from sync and async tests alike: nothing here waits longer than milliseconds,
save for what it says in `within` (seconds). Start things from the main thread, for the reason that
`marketswarm.agent.parent_death_guard` gives.
"""

from support.rig.alert_tail import AlertTail
from support.rig.fleet import Fleet
from support.rig.process import HOST, PLAIN, Proc, Process, Server, free_port
from support.rig.tcp_proxy import TcpProxy

__all__ = ["HOST", "PLAIN", "AlertTail", "Fleet", "Proc", "Process", "Server", "TcpProxy", "free_port"]
