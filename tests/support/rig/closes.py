"""A part of the rig that is closed when its `with` block ends."""

from typing import Self


class Closes:
    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
