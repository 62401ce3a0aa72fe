"""Read the diagnoses of an outage that the archive keeps with it, beside those that the bus still has."""

from typing import Final

from marketswarm.operator.healing import DiagnosisRecord
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError

MAX_READ: Final = 20
_DIAGNOSES: Final = """
select diagnosis::text from incident_events where incident = $1 and diagnosis is not null
order by stream_position desc limit $2"""


class ArchivedDiagnoses:
    """Reads diagnoses by the connections of the archive."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive

    async def read(self, incident: str) -> list[DiagnosisRecord]:
        """Return the newest diagnoses of an outage, MAX_READ at most.

        The list is empty if there is no archive, or it is away. What can't be used, or is of another outage,
        is left out.
        """
        try:
            rows = await self._archive.fetch(_DIAGNOSES, incident, MAX_READ)
        except DatabaseAwayError:
            return []
        found = (DiagnosisRecord.parse(str(raw).encode()) for (raw,) in rows)
        return [each for each in found if each is not None and each.incident == incident]
