"""Read the entries of streams as one worker of a consumer group, and write one note about each item."""
