"""Show the truth, check documents, and seed them."""
