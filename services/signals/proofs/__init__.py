"""Make what is in the log provable: sign what is committed, have it cosigned, prove, verify, explain.

Enters: committed entries and places of the log, its key from a file, answers of a witness.
Leaves: checkpoints and cosignatures in the log's tables, files that prove, a signal computed once more.
Never: a checkpoint that contradicts an earlier one, a cosignature that was not verified, a key in a log.
"""
