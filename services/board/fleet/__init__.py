"""Show the fleet: its snapshot, its history, its pages and its API."""
