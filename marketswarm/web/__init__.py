"""Answer HTTP: what every program with pages or an API is built on. The board is the first.

In come connections, requests and messages of strangers; out go bounded answers, sessions, and entries of the
audit log. The web framework is an extra (`marketswarm[services]`): what runs without it imports none of this.

Must never happen: a name, a path or a word of one program in here (they are passed in), an import of what is
in `services`, or a request, a stream or a client that takes memory or time without a bound.
"""
