"""What sources there are: a file each, how to ask each, and how to read its answers."""
