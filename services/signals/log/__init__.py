"""Keep a log from which no entry can be dropped or changed unseen: a Merkle tree, signed and cosigned. Pure.

Enters: the content of entries, keys, checkpoints and proofs of others.
Leaves: hashes, proofs, signed checkpoints, and the first place at which one of them is wrong.
Never: a signature over a tree that contradicts an earlier one; a key in a message, a log or an error.
"""
