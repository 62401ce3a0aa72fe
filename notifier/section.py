"""The notifier's own part of the truth, where a seeding looks for it (`marketswarm.agent.service_config`)."""

from notifier.router.policy import Section

__all__ = ["Section"]
