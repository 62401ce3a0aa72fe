"""A recording that plays as a source."""
