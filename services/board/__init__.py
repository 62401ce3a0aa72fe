"""Show the fleet to people: a page that stays live in a browser, and a JSON API that reads the same.

Enters: what is on the buses, in the log of alerts and in the database; requests, pings and forms.
Leaves: pages, answers, updates; beats that stand for pings; what a person with the right asked for, audited.
Never: a verdict of its own, text of others as markup, or a change without a token, a session or a key.
"""
