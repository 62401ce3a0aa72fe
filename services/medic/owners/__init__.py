"""What runs the processes of services on this machine, and restarts them: one module for each kind."""
