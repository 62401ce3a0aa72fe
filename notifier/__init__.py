"""The notifier: turns facts into messages. Not built yet; the healer already writes what it will read."""
