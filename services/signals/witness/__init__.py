"""Watch logs of others, and cosign each checkpoint that continues the one before. It needs no bus.

Enters: checkpoints with proofs, by HTTP, of the logs that its operator named.
Leaves: cosignatures with a time; both heads of a log that forked, as evidence.
Never: two cosignatures of one log that contradict each other, nor one before its checkpoint is stored.
"""
