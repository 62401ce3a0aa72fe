"""What market data and its probe read from the environment: the key, and where the API is, if elsewhere.

The truth goes first for the places, and never has the key.
"""

from pydantic import Field

from marketswarm.settings import Common, Token
from services.massive.market.wishes import RestUrl, WsUrl


class MarketSettings(Common):
    """All may be left out. The key has a `_FILE` twin, and so have the URLs."""

    polygon_api_key: Token | None = None
    massive_rest_url: RestUrl | None = Field(default=None, repr=False)
    massive_ws_url: WsUrl | None = Field(default=None, repr=False)
