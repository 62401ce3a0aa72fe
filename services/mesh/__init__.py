"""Keep the topology of the running instances, from the beats of every bus, and the flow of their data."""
