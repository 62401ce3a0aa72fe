"""Read the feeds in the settings, and publish each new item on the market bus, once."""
