"""The notifier: sends people grouped messages about the events in the alert log.

Enters: the alert log by a consumer group, silences, acknowledgements and requests of operators, and what the
medic says that it is about to heal.
Leaves: messages over the channels of the truth, each at least once; its state and records on every bus.
Never: a message before the decision is stored (unless no bus stores anything), an outage that is neither
told nor held back for a reason, or a state written over one that it does not include.
"""
