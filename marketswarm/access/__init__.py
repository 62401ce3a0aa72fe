"""Build the ACL users of a bus from a truth: who may run which command on which key and channel.

Each service has a user with the permissions that it needs and no others. Besides there are `bootstrap`,
`operator`, and `default`, which needs no password and may only read. `passwords`
makes and keeps the passwords.
"""
