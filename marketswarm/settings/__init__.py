"""Read settings of programs from the environment: a class for each kind of program.

A field `redis_url` is the variable `REDIS_URL`. A variable that may hold a secret (every URL, every
`SecretStr`) has a second form, `REDIS_URL_FILE`, that names a file with the value. An empty variable counts
as not set, as compose's `${NAME:-}` leaves it. `marketswarm.bus.find_bus_url` reads the URLs of named buses.

Enters: the environment, and files that it names.
Leaves: checked settings, or all mistakes at once. Where the truth sets something too, the truth wins.
Never: the value of a variable in an error; it names the variable.
"""

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used
from marketswarm.settings.environment import (
    BASE64_PREFIX,
    MAX_SECRET_FILE_BYTES,
    CommonSettings,
    HostNames,
    HttpUrl,
    Key,
    MailAddresses,
    Name,
    Port,
    PublicUrl,
    SigningSecret,
    Tls,
    Token,
    is_variable_set,
    list_variables,
    read_settings,
    read_variable,
)

if TYPE_CHECKING:
    from marketswarm.settings.programs import (
        AccessSettings,
        ChannelSettings,
        HealerSettings,
        JoinSettings,
        MonitorSettings,
        NotifierSettings,
        SentinelSettings,
        TracingSettings,
    )

__all__ = [
    "BASE64_PREFIX",
    "MAX_SECRET_FILE_BYTES",
    "AccessSettings",
    "ChannelSettings",
    "CommonSettings",
    "HealerSettings",
    "HostNames",
    "HttpUrl",
    "JoinSettings",
    "Key",
    "MailAddresses",
    "MonitorSettings",
    "Name",
    "NotifierSettings",
    "Port",
    "PublicUrl",
    "SentinelSettings",
    "SigningSecret",
    "Tls",
    "Token",
    "TracingSettings",
    "is_variable_set",
    "list_variables",
    "read_settings",
    "read_variable",
]

__getattr__ = import_when_used(__name__)
