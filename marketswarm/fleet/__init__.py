"""The embedded fleet: real servers and the agents as child processes of one `marketswarm up`.

Enters: a truth, a data folder, requests on the control socket, signals.
Leaves: two buses, a PostgreSQL for an archive, the agents, their logs in files, and a summary.
Never: a child that outlives `up`, two fleets in one data folder, or a file of the fleet that others may read.
"""
