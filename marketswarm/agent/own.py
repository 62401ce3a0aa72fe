"""A service's own part of its section: `endpoints` and `settings`, read into the service's model. Pure."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from marketswarm.exit import Code, Exit
from marketswarm.truth import Service

M = TypeVar("M", bound="Own")
SHOWN = 5


class Own(BaseModel):
    """What a service wants to find in its section; keys it does not know are someone else's."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def own_part(model: type[M], name: str, section: Service) -> M:
    """What `section` of the service `name` says, as `model`, which has `endpoints`, `settings`, or both.

    Raises:
        Exit: code 2, naming the path of each mistake, and no value.
    """
    try:
        return model.model_validate({"endpoints": section.endpoints, "settings": section.settings})
    except ValidationError as error:
        wrong = [
            f"services.{name}.{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)[:SHOWN]
        ]
    raise Exit(Code.CONFIGURATION, "; ".join(wrong))
