"""The healer: it monitors the beats of all services and publishes which are down and which are up.

Enters: beats of every bus, the truth, the alerts that services raise themselves.
Leaves: verdicts in the alert log, the roster, `health:<svc>`; copies of the services' alerts.
Never: two healers that publish under one epoch, or a miss for what the healer itself did not hear.
"""
