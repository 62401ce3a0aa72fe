"""Change the fleet for clients: one function a verb, which the API and the forms of the pages call."""
