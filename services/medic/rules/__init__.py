"""Alert rules: what is measured, which rules hold, and the events that follow."""
