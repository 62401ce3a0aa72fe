"""Show what the truth marks public: pages, announcements and badges.

Enters: the snapshot of the fleet, and what the truth marks as public.
Leaves: pages that need no token and may be cached.
Never: a service, a detail or a time that the truth does not mark public.
"""
