"""Loading a series: which source of its cascade serves it, and what goes onto the bus."""
