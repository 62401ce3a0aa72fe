"""Send requests to servers outside the swarm: HTTP, WebSocket, checks of addresses, pauses, errors.

Every program that calls servers outside the swarm uses this package.

Enters: a URL from the truth, the environment or a feed, and limits of time and size.
Leaves: an answer, or an error that has a name which all logs share.
Never: a connection to an inside address that was not allowed, a followed redirect that was not asked for, or
an answer without a limit.
"""
