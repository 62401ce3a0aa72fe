"""What every program that calls outside shares: reasons of errors, pauses between attempts, addresses."""
