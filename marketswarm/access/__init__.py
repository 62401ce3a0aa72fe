"""Build the ACL users of a bus from a truth: who may run which command on which key and channel.

Each service has a user with the permissions that it needs and no others. Besides there are `bootstrap`,
`operator`, and `default`, which needs no password and may only read. `passwords`
makes and keeps the passwords.
"""

from marketswarm.access.grant import Grant, User, escape_pattern, format_acl_file
from marketswarm.access.users import BOOTSTRAP, DEFAULT, OPERATOR, AclError, build_users, user_names

__all__ = [
    "BOOTSTRAP",
    "DEFAULT",
    "OPERATOR",
    "AclError",
    "Grant",
    "User",
    "build_users",
    "escape_pattern",
    "format_acl_file",
    "user_names",
]
