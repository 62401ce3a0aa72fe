"""The notifier: turns the facts of the alert log into messages that people can stand to receive."""
