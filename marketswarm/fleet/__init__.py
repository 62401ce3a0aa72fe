"""The embedded fleet: real servers and the agents as child processes of one `marketswarm up`."""
