"""Ask for votes outside: a model, a program over HTTP, the news. Each voter within its limits, and by thrift.

Enters: questions on symbols as of an instant, votes of earlier questions, keys filed by origin.
Leaves: a vote or the reason of an abstention for each question, in time; a sentence about a signal that is
committed; what was asked, and what it cost.
Never: a key at an origin it is not filed under; foreign text that changes more than its own voter's vote; a
question beyond a limit, or twice at the same time.
"""
