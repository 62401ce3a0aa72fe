"""Reads the feeds in its endpoints and puts each new item on the market bus, once."""
