"""Answer HTTP: what every program with pages or an API is built on. The board is the first.

The web framework is an extra (`marketswarm[services]`): what runs without it imports none of this.

Enters: connections, requests and messages of strangers; a program's own names, rules, templates and filters.
Leaves: bounded answers, sessions, updates for those who follow, and entries of the audit log.
Never: a word or a path of one program, an import of `services`, or a request, a stream or a client that takes
memory or time without a bound.
"""
