"""Who may do what on a bus: the users of Redis' ACLs, made from a truth. Pure.

A user a service, each with no more than its part takes; `bootstrap` and `operator`; and `default`, which
needs no password and may only look. Not here: passwords and files (`marketswarm.passwords`).
"""

from marketswarm.acl.grants import Grant, User, escaped
from marketswarm.acl.lines import HASHED, text
from marketswarm.acl.users import BOOTSTRAP, DEFAULT, OPERATOR, AclError, names, users

__all__ = [
    "BOOTSTRAP",
    "DEFAULT",
    "HASHED",
    "OPERATOR",
    "AclError",
    "Grant",
    "User",
    "escaped",
    "names",
    "text",
    "users",
]
