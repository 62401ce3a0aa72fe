"""Show the fleet: its snapshot, its history, its pages and its API.

Enters: beats, `health:<svc>`, the log of alerts, and the records of the healer, the notifier and the medic.
Leaves: one snapshot that the pages and the API read alike, and a recorded history.
Never: a state that no program published, or a snapshot that waits for a bus that is away.
"""
