"""The one-shot that seeds the truth into every bus."""
