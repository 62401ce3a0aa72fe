"""Say what the services of the market mean by a record, an entry and a trading day. Pure.

In: fields of entries, and times. Out: records (`records`), entries of streams (`entries`), intervals and
sessions of exchanges. An entry that can't be read raises EntryError, which says what is wrong with it.

Nothing here knows a row, a table or a connection, but for `request_desk`, which asks the bus.
"""
