"""The notifier: sends people grouped messages about the events in the alert log."""
