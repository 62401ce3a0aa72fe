"""The services of the first fleet, one folder each."""
