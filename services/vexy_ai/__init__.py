"""Read the entries of streams as one worker of a consumer group, and write one note about each item.

Enters: items, results of probes and bars; answers of a language model, if the truth names one.
Leaves: `vexy:notes`, a digest every few minutes, `vexy:dead` for what can't be worked on.
Never: an entry that is lost or noted twice, or more requests to a model than the budget of all workers.
"""
