"""What vexy_ai reads from the environment besides: where a language model answers, and the key to it."""

from pydantic import Field

from marketswarm.settings import Common, HttpUrl, Token


class VexySettings(Common):
    """Without a URL nobody is asked, and digests are plain."""

    vexy_llm_url: HttpUrl | None = Field(default=None, repr=False)  # up to and with /v1
    vexy_llm_key: Token | None = None
