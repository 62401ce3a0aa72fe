"""Follow the signals of a fleet in the terminal.

Enters: entries of `signals:log`.
Leaves: a line for each signal, or its JSON.
Never: words of a voter that control the terminal, or the same signal twice.
"""
