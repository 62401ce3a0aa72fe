"""Change the fleet for clients: one function a verb, which the API and the forms of the pages call.

Enters: a verb with its fields, and who asked.
Leaves: what the operator's commands write, an entry of the audit log, and what the client is told.
Never: a change that is not audited, or a link that works twice.
"""
