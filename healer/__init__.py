"""The healer: turns silence into facts."""
