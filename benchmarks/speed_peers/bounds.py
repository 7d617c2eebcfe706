"""What the comparison is expected to show: each bound, and whether a file of results keeps it."""

from dataclasses import dataclass

from speed_peers.contests import FAMILY_SIZES

# How a figure of a row, or its ratio to the rival's, is read; speed and images per second are at least the bound, the
# sizes of memory at most.
AT_LEAST = ("speed", "images_per_second", "agreement")
WORDS = {
    "speed": "times as fast as",
    "growth_mib": "of the memory growth of",
    "loaded_mib": "of the loaded size of",
    "whole_mib": "of the memory of",
    "images_per_second": "images/s",
}
LEAST_AGREEMENT = 0.9999


@dataclass(frozen=True)
class Bound:
    """`variant` of `contest` against `rival` in the same contest, or by itself where there is none."""

    quantity: str
    contest: str
    variant: str
    rival: str | None
    limit: float

    def text(self) -> str:
        sign = "≥" if self.quantity in AT_LEAST else "≤"
        limit = f"{self.limit:g}" if self.rival is None else f"{self.limit:g}x"
        return f"{self.contest}: {self.variant} {sign} {limit} {WORDS[self.quantity]} {self.rival or ''}".rstrip()

    def judged(self, rows: list[dict]) -> dict | None:
        """The measured figure and "holds" or "falls short"; None where it was not measured."""
        measured = self.measured({row["variant"]: row for row in rows if row["contest"] == self.contest})
        if measured is None:
            return None
        value, date = measured
        good = value >= self.limit if self.quantity in AT_LEAST else value <= self.limit
        told = {"bound": self.text(), "limit": self.limit, "measured": float(f"{value:.4g}"), "date": date}
        return told | {"result": "holds" if good else "falls short"}

    def measured(self, rows: dict[str, dict]) -> tuple[float, str] | None:
        """The figure and the date of its measurement."""
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
    """The newest measurement in which the two took turns; it stands in the row of either."""
    found = []
    if rival in mine["times_as_fast_as"]:
        found.append((mine["date"], mine["times_as_fast_as"][rival]))
    if theirs and name in theirs.get("times_as_fast_as", {}):
        found.append((theirs["date"], 1 / theirs["times_as_fast_as"][name]))
    if not found:
        return None
    date, value = max(found, key=lambda each: each[0])
    return value, date


def speeds(variant: str, rival: str, limits: dict[str, float]) -> list[Bound]:
    return [Bound("speed", contest, variant, rival, limit) for contest, limit in limits.items()]


def sizes(family: str, limit: float) -> dict[str, float]:
    """The same limit at each size at which a family is measured."""
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
    *(Bound("growth_mib", contest, "fastfcn", "mmsegmentation", limit) for contest, limit in LARGE.items()),
    *(Bound("loaded_mib", contest, "fastfcn", "mmsegmentation", 2.2) for contest in STREET),
)
CUDA = (
    Bound("images_per_second", "psp_19_1024x2048", "fastfcn", None, 60.0),
    *speeds("fastfcn", "mmsegmentation", {"psp_19_1024x2048": 5.0, FULL: 2.5}),
    Bound("whole_mib", FULL, "fastfcn", "mmsegmentation", 0.5),
)
BOUNDS = {"cpu": CPU, "cuda": CUDA}


def criteria(device: str, rows: list[dict]) -> list[dict]:
    """All bounds of the device that were measured, and the agreement of class maps where precision is float32."""
    judged = [bound.judged(rows) for bound in BOUNDS[device]]
    exact = [row for row in rows if row.get("agreement") is not None and row["precision"] == "float32"]
    return [each for each in judged if each] + [agreement(row) for row in exact if device == "cpu"]


def agreement(row: dict) -> dict:
    value = row["agreement"]
    return {
        "bound": f"{row['contest']}: {row['variant']} ≥ {LEAST_AGREEMENT:.2%} of {row['reference']}'s class map",
        "limit": LEAST_AGREEMENT,
        "measured": value,
        "date": row["date"],
        "result": "holds" if value >= LEAST_AGREEMENT else "falls short",
    }
