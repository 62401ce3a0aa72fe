"""Define what operators write on the buses, and read and write it.

That is silences, requests to the notifier, tokens, ping keys and announcements. Each is kept on every bus, so
that one bus is enough, but for tokens and ping keys, which system-redis alone keeps. The command line, the
board and the notifier use this. Not here: what follows from a silence or an acknowledgement, which the
notifier decides.
"""
