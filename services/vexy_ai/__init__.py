"""Reads feed items as one of a group of workers, and writes a note about each, once."""
