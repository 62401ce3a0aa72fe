"""What every program that calls outside shares."""
