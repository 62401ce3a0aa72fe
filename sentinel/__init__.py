"""The sentinel: watches the healer alone, and sends the alerts that no other process sends.

Enters: the healer's beats, the truth on all buses, the alert log, and what the notifier has delivered.
Leaves: a miss and an ok of the healer; messages over its own channels where the notifier does not answer.
Never: a connection, a key or a process that it shares with the healer, or a conclusion about a bus that is
away.
"""
