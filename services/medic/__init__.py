"""medic: acts on the outages that the healer reports, verifies what it did, and keeps a record of each.

A round looks at the fleet, evaluates the rules, decides, stores what it decided, and only then acts.

Enters: the healer's verdicts, beats, what runs processes here, measurements, approvals of people.
Leaves: at most one remedy in a round; incidents and proposals on system-redis; events of rules.
Never: a remedy that is not stored before, by two medics, without a mode that allows it, or for healer,
sentinel, notifier or itself; nothing is done on what is not known.
"""
