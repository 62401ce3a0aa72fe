"""The remedies: what can be done for a target, one module each, and the ladder in which they are tried.

Enters: facts about a target; an order with the identity of a start, and the end of our lease.
Leaves: why a remedy must not be tried now, what an order became, whether it was carried out and helped.
Never: a remedy for another start than the order names, or one that is begun after the lease has ended.
"""

from marketswarm.operator.remedies import Remedy
from services.medic.remedies.ladder import REMEDIES, build_ladder
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType

__all__ = ["REMEDIES", "OrderResult", "Remedy", "RemedyContext", "RemedyOrder", "RemedyType", "build_ladder"]
