"""Define the settings of archive in the truth and the environment, and the streams that it reads. Pure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from marketswarm.agent import InputStream, ServiceConfig, point_like
from marketswarm.bus_url import PERCENT_ENCODE, splits_password
from marketswarm.keys import ALERT_LOG, ARCHIVE_DEAD, MEDIC_EVIDENCE, MEDIC_INCIDENTS
from marketswarm.settings import CommonSettings, SlowMs, list_variables
from marketswarm.truth import MARKET, SYSTEM, AccessPoint, Service
from marketswarm.truth.schedule import parse_schedule
from services.archive.database import TIMEOUT_SEC
from services.tables.tables import STREAMS

FOLLOWED: Final = (ALERT_LOG, MEDIC_INCIDENTS, MEDIC_EVIDENCE)
"""The streams on SYSTEM, which are read by a stored position, by users who may use no group there."""
_FORM: Final = "postgresql://user:password@host:port/database"
_SECRET_OPTIONS: Final = frozenset({"password", "sslpassword"})


def _require_database_url(url: str) -> str:
    """Return `url` if it names a database of PostgreSQL; otherwise raise ValueError, without the URL."""
    if splits_password(url):
        raise ValueError(f"must be {_FORM}; {PERCENT_ENCODE}")
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        usable = bool(parts.hostname and database) and "/" not in database and parts.port != 0
        options = {name for name, _ in parse_qsl(parts.query)}
    except ValueError:
        usable, options = False, set()
    if not usable or parts.scheme not in ("postgresql", "postgres") or not url.isprintable():
        raise ValueError(f"must be {_FORM}")
    if options & _SECRET_OPTIONS:  # the rest of the URL is an argument of pg_dump, for all users to read
        raise ValueError(f"must be {_FORM}, with no password after the ?")
    return url


DatabaseUrl = Annotated[str, AfterValidator(_require_database_url)]


class ArchiveEnvironment(CommonSettings):
    """The variables of archive. `DATABASE_URL_FILE` may name a file with the URL instead."""

    database_url: DatabaseUrl | None = Field(default=None, repr=False)
    """The database. `marketswarm up` sets it where it runs the server itself."""
    database_slow_ms: SlowMs | None = None
    """A statement that takes longer is logged; without it none is."""
    postgres_bin: Path | None = None
    """The folder with pg_dump and pg_restore, if those on PATH are not the server's."""
    archive_backup_folder: Path | None = None
    """The folder of the daily backups; without it there are none."""


Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
KeptTable = Literal[
    "bars",
    "source_bars",
    "quotes",
    "indicators",
    "features",
    "correlations",
    "downloads",
    "source_health",
    "alerts",
    "alert_counts",
    "incidents",
    "incident_evidence",
]


def _require_schedule(text: str) -> str:
    parse_schedule(text)  # its error is a ValueError
    return text


class BackupSettings(ServiceConfig):
    """`settings.backup`: when a backup is made, and how long it is kept."""

    schedule: Annotated[str, Field(max_length=200), AfterValidator(_require_schedule)] = "30 3 * * *"
    """When a backup is made, as cron or systemd's OnCalendar, in UTC. Example: `"0 4 * * *"`."""
    keep_days: Days = 30.0
    """The days after which a backup is removed. The newest one stays. Example: `90`."""


class RestoreCheckSettings(ServiceConfig):
    """`settings.restore_check`: when the newest backup is restored, to see that it can be."""

    enabled: bool = True
    """Whether archive restores its newest backup by itself. Example: `false`."""
    schedule: Annotated[str, Field(max_length=200), AfterValidator(_require_schedule)] = "30 4 * * 0"
    """When it does so, as cron or systemd's OnCalendar, in UTC; once an hour at most. Example:
    `"0 5 1 * *"`."""


class CorrelationSettings(ServiceConfig):
    """`settings.correlations`: which pairs of symbols are compared."""

    symbols: Annotated[int, Field(ge=0, le=1000)] = 200
    """The number of symbols whose pairs are compared, most daily bars first; 0: none. Example:
    `100`."""
    days: Annotated[int, Field(ge=5, le=1000)] = 60
    """The number of days of one correlation. Example: `60`."""


class WriteSettings(ServiceConfig):
    """`settings` of archive."""

    group: Annotated[str, Field(min_length=1, max_length=100)] = "archive"
    """The consumer group on every stream; under a new name every stream is read from its start. Example:
    `"archive"`."""
    batch: Annotated[int, Field(ge=1, le=20_000)] = 5000
    """The number of entries of a stream that are written at once. Example: `2000`."""
    claim_sec: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] = 60.0
    """The time after which entries that an instance has read and not committed go to another one. Example:
    `30`."""
    database_timeout_sec: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = TIMEOUT_SEC
    """The time limit of a batch; a PostgreSQL that has not answered by then counts as away. Example: `20`."""
    end_idle_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60.0
    """How long a session of archive's role must have done nothing in a transaction until archive ends it
    when it reconnects for the medic. Example: `300`."""
    behind_sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 120.0
    """The waiting time of an entry from which the service is `degraded`. Example: `300`."""
    keep_days: dict[KeptTable, Days] = Field(
        default={
            "quotes": 400.0,
            "correlations": 400.0,
            "downloads": 90.0,
            "source_health": 400.0,
            "incident_evidence": 90.0,
        }
    )
    """The days for which a table's rows are kept; a table without a number is kept for ever. A document of
    yours replaces all of the default. Bars, quotes and indicators are dropped by the month. Observations,
    actions, symbols and sources are always kept. Example: `{"quotes": 30, "downloads": 30}`."""
    backup: BackupSettings = BackupSettings()
    """The daily backup, which needs `ARCHIVE_BACKUP_FOLDER`."""
    restore_check: RestoreCheckSettings = RestoreCheckSettings()
    """The weekly restore of the newest backup into a database of its own, which is dropped again."""
    correlations: CorrelationSettings = CorrelationSettings()
    """The correlations of daily returns."""


class ArchiveSettings(ServiceConfig):
    """The settings of archive in the truth."""

    variables: ClassVar = list_variables(ArchiveEnvironment)

    settings: WriteSettings = WriteSettings()
    """How archive writes, how long it keeps what it wrote, and when it makes a backup."""


def find_streams(points: Sequence[AccessPoint], *, followed: bool = False) -> tuple[InputStream, ...]:
    """Return the streams to read by a consumer group; those of FOLLOWED, by a position, if `followed`.

    The `points` of `subscribe_to` may name other keys for them, with the same last word as our own key.
    """
    bus = SYSTEM if followed else MARKET
    kinds = {kind: point_like(points, bus, kind) for kind in STREAMS if (kind in FOLLOWED) is followed}
    return tuple(InputStream(point.bus, point.key, kind) for kind, point in kinds.items())


def find_dead_letter_key(section: Service) -> str:
    """Return the key; each dead letter is on the bus of its stream."""
    return point_like(section.access_points.publish_to, MARKET, ARCHIVE_DEAD).key
