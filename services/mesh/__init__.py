"""Keeps the picture of who runs, from the beats of every bus."""
