"""Say what an error of PostgreSQL means: it is away, it has a fault, or it refuses rows by their content."""

import contextlib
from typing import Any, Final

import asyncpg

AWAY: Final = (
    OSError,  # refused, reset, no route; TimeoutError is one
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.OperatorInterventionError,  # class 57: it shuts down, starts, or was told to end our session
    asyncpg.InsufficientResourcesError,  # class 53: its disk or its memory is full, or too many connect
    asyncpg.TransactionRollbackError,  # class 40: a deadlock; the other one continues
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28: the password, which may be mended
    asyncpg.InvalidCatalogNameError,  # the database was dropped, as for a restore
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: a lock was not to be had
    asyncpg.UndefinedTableError,  # the database was made again, or an older one was restored
    asyncpg.UndefinedColumnError,
    asyncpg.DuplicateTableError,  # an instance of another release, which locks otherwise, made it as well
    asyncpg.InsufficientPrivilegeError,  # until it is granted
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,
)
_FAULTS: Final = (
    asyncpg.PostgresSystemError,  # class 58: it can't read or write a file
    asyncpg.InternalServerError,  # class XX: an index or a block is damaged
)
_REFUSALS: Final = (
    asyncpg.DataError,  # class 22
    asyncpg.IntegrityConstraintViolationError,  # class 23
    asyncpg.ProgramLimitExceededError,  # class 54: a value is too long for an index, or nested too deep
)
_OURS: Final = "S"
"""The begin of the codes that triggers of ours raise; the standard and PostgreSQL have no such class."""
_CANCELED: Final = "57014"  # a statement took too long, and the server says so
_OUTAGES: Final = frozenset({"08", "28", "3D", "53", "57"})
"""The classes of errors after which no statement can succeed: no connection, a wrong password, no such
database, no resources, a server that starts or stops."""


class PostgresAwayError(Exception):
    """PostgreSQL can't be used now; a later attempt may succeed. The message holds no password."""

    @property
    def is_outage(self) -> bool:
        """Whether no other statement can succeed either; False if it may be the fault of this one."""
        state = getattr(self.__cause__, "sqlstate", None)
        return self.__cause__ is not None and (
            state is None or (state != _CANCELED and state[:2] in _OUTAGES)
        )

    @property
    def lacks_right(self) -> bool:
        """Whether the role may not do this, until it is granted."""
        return isinstance(self.__cause__, asyncpg.InsufficientPrivilegeError)


class ServerFaultError(PostgresAwayError):
    """PostgreSQL answers, and reports a fault of its own, such as a damaged index: rows are not to blame."""


class MissingPartitionError(PostgresAwayError):
    """A row has no partition: it was dropped after we last read which there are."""


class RefusedRowsError(Exception):
    """PostgreSQL refuses rows by their content: the same rows will be refused again."""


class TriggerRefusalError(RefusedRowsError):
    """A trigger of ours refuses a row, and says why by a code of its own (`RAISE … USING ERRCODE`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def translated_errors() -> Any:
    """Raise PostgresAwayError or RefusedRowsError for the errors of the block that mean that."""
    try:
        yield
    except AWAY as error:
        raise PostgresAwayError(_describe(error)) from error
    except _FAULTS as error:
        raise ServerFaultError(_describe(error)) from error
    except asyncpg.PostgresError as error:
        code = error.sqlstate or ""
        if code.startswith(_OURS):
            raise TriggerRefusalError(code, _describe(error)) from error
        if not isinstance(error, _REFUSALS):
            raise
        if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
            # every check of ours has a name; that of a table's division into partitions has none
            raise MissingPartitionError(_describe(error)) from error
        raise RefusedRowsError(_describe(error)) from error


@contextlib.contextmanager
def refused_encodings() -> Any:
    """Raise RefusedRowsError for rows of the block that the driver can't encode, such as a number of 2^63."""
    try:
        yield
    except (OverflowError, ValueError) as error:
        raise RefusedRowsError(_describe(error)) from error


def _describe(error: BaseException) -> str:
    """Return the type and the message of an error on one line, without the rows that it may quote."""
    # `detail` has the failing row; the message has names of constraints and columns
    lines = str(error).splitlines() or [""]
    words = getattr(error, "constraint_name", None) or lines[0][:200]
    return ": ".join(filter(None, [type(error).__name__, words]))


def make_timeout(within_sec: float) -> TimeoutError:
    return TimeoutError(f"no answer within {within_sec:g} s")
