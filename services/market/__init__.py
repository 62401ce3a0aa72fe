"""Say what the services of the market mean by a record, an entry and a trading day. Pure.

Enters: fields of entries, and times.
Leaves: records (`records`), entries of streams (`entries`), intervals and sessions of exchanges; an
EntryError that says what is wrong with an entry.
Never: a row, a table or a connection.
"""
