"""What runs the processes of services on this machine, and restarts them: one module for each kind.

Enters: names of services; the identity of a process to restart, and until when that may be done.
Leaves: the processes with their identities, their logs and what they take.
Never: a restart of another start than the one that was named, or after the lease has ended.
"""
