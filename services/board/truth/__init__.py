"""Show the truth, check documents, and seed them.

Enters: a document or an entry from a person, and the revision on which it is based.
Leaves: what is wrong with it, what it would change, and the truth that was seeded.
Never: a seeded document that `validate` refuses, or one over a revision that nobody saw.
"""
