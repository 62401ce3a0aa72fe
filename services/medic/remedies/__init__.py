"""The remedies: what can be done for a target, one module each, and the ladder in which they are tried."""

from marketswarm.operator.remedies import Remedy
from services.medic.remedies.ladder import REMEDIES, build_ladder
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType

__all__ = ["REMEDIES", "OrderResult", "Remedy", "RemedyContext", "RemedyOrder", "RemedyType", "build_ladder"]
