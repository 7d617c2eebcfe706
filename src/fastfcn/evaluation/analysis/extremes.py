"""Which images a network does worst and best on, and how all of them spread."""

import numpy as np

WORST, BEST = 5, 3
BINS = 20


class Extremes:
    """The images of lowest and highest mIoU (over the classes that the image has), and a histogram over all images.

    `worst` and `best` are rows of (mIoU 0-100, index), nan where there are fewer images.
    """

    def __init__(self, worst: int = WORST, best: int = BEST):
        self.worst = np.full((worst, 2), np.nan)
        self.best = np.full((best + worst, 2), np.nan)  # some of these may be among the worst
        self.histogram = np.zeros(BINS, np.int64)

    def update(self, index: int, miou: float) -> None:
        """Add an image; one without labels has no score (nan) and is left out."""
        if np.isnan(miou):
            return
        self.histogram[min(int(miou * BINS / 100), BINS - 1)] += 1
        row = np.array([[miou, index]])
        self.worst = _first(np.concatenate([self.worst, row]), len(self.worst), 1)
        self.best = _first(np.concatenate([self.best, row]), len(self.best), -1)

    def indices(self) -> tuple[list[int], list[int]]:
        """Worst and best images, the most extreme first, none in both."""
        worst, best = ([int(index) for _, index in rows if not np.isnan(index)] for rows in (self.worst, self.best))
        images = int(self.histogram.sum())
        worst = worst[: max(1, min(len(worst), images - min(images // 2, len(self.best) - len(self.worst))))]
        return worst, [each for each in best if each not in worst][: len(self.best) - len(self.worst)]

    def merge(self, worst: np.ndarray, best: np.ndarray) -> None:
        """Take the extremes of all processes, rows of (mIoU, index), in the place of this one's."""
        self.worst = _first(worst.reshape(-1, 2), len(self.worst), 1)
        self.best = _first(best.reshape(-1, 2), len(self.best), -1)


def _first(rows: np.ndarray, count: int, sign: int) -> np.ndarray:
    """The first `count` rows by score, then by index; nan comes last."""
    return rows[np.lexsort((rows[:, 1], sign * rows[:, 0]))][:count]
