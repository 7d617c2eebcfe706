"""One run as a report tells of it."""

from dataclasses import dataclass

from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.report.history import History


@dataclass(frozen=True)
class Account:
    """What the run recorded, what was found on the data, if it could be had, and sentences on what is missing."""

    history: History
    findings: Findings | None
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.history.name

    @property
    def scores(self) -> dict | None:
        """Recorded scores as JSON, for where there are no findings."""
        return self.history.scores
