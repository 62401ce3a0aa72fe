"""The sentinel: watches the healer."""
