"""Target values of the comparisons, and whether results meet them."""

from dataclasses import dataclass

from speed_peers.comparisons import FAMILY_SIZES

# Quantities for which the limit is a minimum; for all others it is a maximum.
AT_LEAST = ("speed", "images_per_second", "agreement")
WORDS = {
    "speed": "the speed of",
    "growth_mib": "of the memory growth of",
    "loaded_mib": "of the loaded size of",
    "whole_mib": "of the memory of",
    "images_per_second": "images/s",
}
LEAST_AGREEMENT = 0.9999


@dataclass(frozen=True)
class Bound:
    """Target of `variant` in `comparison`: relative to `rival`, or absolute if that is None."""

    quantity: str
    comparison: str
    variant: str
    rival: str | None
    limit: float

    def text(self) -> str:
        sign = "≥" if self.quantity in AT_LEAST else "≤"
        limit = f"{self.limit:g}" if self.rival is None else f"{self.limit:g}x"
        return f"{self.comparison}: {self.variant} {sign} {limit} {WORDS[self.quantity]} {self.rival or ''}".rstrip()

    def judged(self, rows: list[dict]) -> dict | None:
        """The measured value and "met" or "missed"; None if it was not measured."""
        measured = self.measured({row["variant"]: row for row in rows if row["comparison"] == self.comparison})
        if measured is None:
            return None
        value, date = measured
        good = value >= self.limit if self.quantity in AT_LEAST else value <= self.limit
        record = {"bound": self.text(), "limit": self.limit, "measured": float(f"{value:.4g}"), "date": date}
        return record | {"result": "met" if good else "missed"}

    def measured(self, rows: dict[str, dict]) -> tuple[float, str] | None:
        """The value and the date of its measurement."""
        mine, theirs = rows.get(self.variant), rows.get(self.rival or "")
        if mine is None or "failed" in mine:
            return None
        if self.rival is None:
            return mine[self.quantity], mine["date"]
        if self.quantity == "speed":
            return speed_ratio(mine, theirs, self.variant, self.rival)
        if theirs is None or not mine.get(self.quantity) or not theirs.get(self.quantity):
            return None
        return mine[self.quantity] / theirs[self.quantity], max(mine["date"], theirs["date"])


def speed_ratio(mine: dict, theirs: dict | None, name: str, rival: str) -> tuple[float, str] | None:
    """The latest measurement with interleaved runs of both; either row may have it."""
    measured = []
    if rival in mine["times_as_fast_as"]:
        measured.append((mine["date"], mine["times_as_fast_as"][rival]))
    if theirs and name in theirs.get("times_as_fast_as", {}):
        measured.append((theirs["date"], 1 / theirs["times_as_fast_as"][name]))
    if not measured:
        return None
    date, value = max(measured, key=lambda pair: pair[0])
    return value, date


def speeds(variant: str, rival: str, limits: dict[str, float]) -> list[Bound]:
    return [Bound("speed", comparison, variant, rival, limit) for comparison, limit in limits.items()]


def sizes(family: str, limit: float) -> dict[str, float]:
    """The same limit for each size of a family."""
    return {f"{family}_{height}x{width}": limit for height, width in FAMILY_SIZES}


STREET = {"psp_19_512x1024": 3.3, "enc_19_512x1024": 3.3, "aspp_19_512x1024": 2.5}
ROOM = {"psp_150_512x512": 3.2, "enc_150_512x512": 3.2}
LARGE = {"psp_19_1024x2048": 0.40, "enc_19_1024x2048": 0.16}
FULL = "train_psp_19_512x1024"

CPU = (
    *speeds("fastfcn", "mmsegmentation", STREET | ROOM),
    *speeds("fastfcn", "openvino", {"psp_19_512x1024": 2.0}),
    *speeds("fastfcn", "onnxruntime", {"psp_19_512x1024": 2.0}),
    *speeds("fastfcn_plain", "mmsegmentation", dict.fromkeys(STREET, 1.3)),
    *speeds("r50_enc_jpu", "r50_enc_dilated", sizes("official_r50", 2.0)),
    *speeds("r101_enc_jpu", "r101_enc_dilated", sizes("official_r101", 2.4)),
    *speeds("r50_jpu_m", "r50_dilated", sizes("slim_r50", 4.0)),
    *(Bound("growth_mib", comparison, "fastfcn", "mmsegmentation", limit) for comparison, limit in LARGE.items()),
    *(Bound("loaded_mib", comparison, "fastfcn", "mmsegmentation", 2.2) for comparison in STREET),
)
CUDA = (
    Bound("images_per_second", "psp_19_1024x2048", "fastfcn", None, 60.0),
    *speeds("fastfcn", "mmsegmentation", {"psp_19_1024x2048": 5.0, FULL: 2.5}),
    Bound("whole_mib", FULL, "fastfcn", "mmsegmentation", 0.5),
)
BOUNDS = {"cpu": CPU, "cuda": CUDA}


def criteria(device: str, rows: list[dict]) -> list[dict]:
    """All measured targets of the device, and the agreement of labels in float32."""
    judged = [bound.judged(rows) for bound in BOUNDS[device]]
    exact = [row for row in rows if row.get("agreement") is not None and row["precision"] == "float32"]
    return [target for target in judged if target] + [agreement(row) for row in exact if device == "cpu"]


def agreement(row: dict) -> dict:
    value = row["agreement"]
    return {
        "bound": f"{row['comparison']}: {row['variant']} ≥ {LEAST_AGREEMENT:.2%} of {row['reference']}'s labels",
        "limit": LEAST_AGREEMENT,
        "measured": value,
        "date": row["date"],
        "result": "met" if value >= LEAST_AGREEMENT else "missed",
    }
