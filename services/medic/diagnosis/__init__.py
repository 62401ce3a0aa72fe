"""Ask a command or a language model what is wrong, where the ladder ended; its answer is only a proposal.

Enters: an outage on record, logs, resources, commits; an answer that is not trusted.
Leaves: a diagnosis in the record, and remedies that a person may approve; evidence of each step.
Never: a secret in what leaves the fleet, or a remedy that is carried out because an answer says so.
"""
