"""What sources there are: a file each, how to ask each, and how to read its answers.

Enters: the TOML file of a source, a series, the bytes of an answer.
Leaves: the request to send, and records or the reason why an answer is rejected.
Never: I/O but for the files, or a record with a guess in place of a value.
"""
