"""Name the model of the notifier's section, where a seeding finds it (`marketswarm.agent.service_config`)."""

from notifier.router.policy import Section

__all__ = ["Section"]
