"""Build the ACL users of a bus from a truth: who may run which command on which key and channel.

Each service has a user with the permissions that it needs and no others. Besides there are `bootstrap`,
`operator`, `default`, which needs no password and may only read, and `join` for the beats of other machines,
where the fleet listens for them. `rights` is the table of who may do what; `passwords` makes and keeps the
passwords.

Enters: a truth, and what services declare that they read and write.
Leaves: users with their rights, and files with their passwords.
Never: a right that no declaration asks for, or a password in a log.
"""
