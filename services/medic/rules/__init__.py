"""Alert rules: what is measured, which rules hold, and the events that follow.

Enters: an observation of the fleet, measurements of it, and what the medic says of its own work.
Leaves: facts about services for the planner, and events of rules by the one mechanism of outages.
Never: a rule that missing data makes hold or end, or an import of what decides and acts: a round decides on
what the rules find in this round.
"""
