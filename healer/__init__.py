"""The healer: it monitors the beats of all services and publishes which are down and which are up."""
