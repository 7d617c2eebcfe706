"""One kind of thing that is wrong with a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One kind of thing that is wrong: `files` are all affected ones, relative to the folder; `count` is theirs.

    `severity` is "error" where training, or its scores, would be wrong or refused, else "warning". `files` may be
    empty where a problem is the whole folder's.
    """

    kind: str
    severity: str
    count: int
    files: Sequence[str]
    message: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "files": list(self.files),
            "message": self.message,
            "advice": self.advice,
        }
