"""medic: acts on the outages that the healer reports, verifies what it did, and keeps a record of each."""
