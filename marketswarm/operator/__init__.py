"""Define what operators write on the buses, and read and write it.

That is silences, requests to the notifier, tokens, ping keys and announcements. Each is kept on every bus, so
that one bus is enough, but for tokens and ping keys, which system-redis alone keeps. The command line, the
board and the notifier use this. What follows from a silence or an acknowledgement, the notifier decides.

Enters: what operators ask for, and what others may have written to the buses.
Leaves: typed values, and keys on the buses.
Never: a token or key in clear on a bus, or a value from a bus that was not parsed.
"""
