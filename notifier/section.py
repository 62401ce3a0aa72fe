"""Export the model of the notifier's section from where `marketswarm.agent.service_config` looks for it."""

from notifier.router.policy import Section

__all__ = ["Section"]
