"""Show the fleet to people: a page that stays live in a browser, and a JSON API that reads the same."""
