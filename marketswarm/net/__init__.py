"""Name network errors, decide pauses between attempts, and check addresses.

Every program that calls servers outside the swarm uses this package.
"""
