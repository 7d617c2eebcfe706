"""Candidates for a latency budget: how latency is estimated, which are measured, and their order."""

from io import StringIO

import pytest
import torch

from fastfcn import build, recipes
from fastfcn.bench import candidates as module
from fastfcn.bench import latency_budget
from fastfcn.bench.candidates import Candidate, PartFlops, candidate_sizes, candidates, parse_latency
from fastfcn.bench.flops import count_flops
from fastfcn.bench.measure import Settings
from fastfcn.cli.tables.profile import budget_table
from fastfcn.errors import UserError
from fastfcn.utils.console import SafeConsole
from tests.helpers.tiny import NARROW, tiny_recipe

ENOUGH = 1e6  # seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20 ms", 20), ("20ms", 20), (" 0.5 s", 500), (".5S", 500), ("30 images/s", 1000 / 30), ("25 FPS", 40)],
)
def test_parse_latency(text, expected):
    assert parse_latency(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "20", "soon", "0 ms", "-3 ms", "1e3 ms", "5 minutes", "nan s"])
def test_invalid_latencies(text):
    with pytest.raises(UserError, match="Invalid latency budget"):
        parse_latency(text)


def test_sizes():
    assert candidate_sizes(None) == ((512, 1024), (256, 512))
    assert candidate_sizes((300, 401)) == ((300, 401), (150, 200), (75, 100))


def test_each_network_is_listed_once():
    listed = candidates(recipes.names(), [], [(64, 96)])
    networks = [(module.backbone_key(one.recipe), one.recipe.neck, one.recipe.head, one.classes) for one in listed]
    assert len(set(networks)) == len(networks)
    assert {name for one in listed for name in one.names} == set(recipes.names())
    psp = [one for one in listed if "fastfcn_r50_psp_cityscapes_80k_b8" in one.names]
    assert sorted(one.width for one in psp) == [96, 128, 256, 512]
    assert psp[0].names == ("fastfcn_r50_psp_cityscapes_80k_b16", "fastfcn_r50_psp_cityscapes_80k_b8")
    assert [(one.width, one.share, one.published) for one in psp[:2]] == [(512, 1.0, 79.26), (96, 96 / 512, None)]
    (dilated,) = [one for one in listed if "dilated_r50_psp_cityscapes_80k_b8" in one.names]
    assert (dilated.width, dilated.share, dilated.published) == (None, 1.0, 78.55)


def test_a_changed_recipe_has_no_published_score():
    listed = candidates(["fastfcn_r50_psp_cityscapes_80k_b8"], ["head.width=64"], [(64, 96), (32, 48)])
    assert {one.published for one in listed} == {None}
    assert {one.recipe.head.width for one in listed} == {64}
    assert sorted({one.size for one in listed}) == [(32, 48), (64, 96)]


@pytest.mark.parametrize("kind", ["psp", "dilated"])
def test_part_flops_add_up_to_the_network(kind):
    used = tiny_recipe() if kind == "psp" else tiny_recipe('neck={kind="none"}')
    one = Candidate(("tiny",), used, (40, 72), 9, 1.0, None)
    parts = PartFlops().of(one)
    with torch.device("meta"):
        total = count_flops(build.create(used).eval().logits, torch.empty(1, 3, 40, 72))
    assert parts["backbone"] + parts["neck"] + parts["head"] == total
    assert (parts["neck"] == 0) == (kind == "dilated")
    assert parts["logits"] == 9 * 40 * 72


# Measurements on a simulated machine that needs 10 ms per million operations.

SLOW = 1e-5  # milliseconds per operation
COUNTING = PartFlops()  # counts each part once for all tests


@pytest.fixture
def machine(monkeypatch):
    """Replaces measurements; networks take `machine.factor` times the latency that the reference's stages suggest."""

    class Machine:
        factor = 1.0
        measured: list

    simulated = Machine()
    simulated.measured = []

    def stages(recipes, size, settings, progress):
        parts = COUNTING.of(Candidate((), recipes[0], size, 9, 1.0, None))
        names = {"layer1": "backbone", "neck": "neck", "head": "head"}
        rows = [{"stage": stage, "ms": parts[part] * SLOW} for stage, part in names.items()]
        rows += [{"stage": "image", "ms": 0.0}, {"stage": "labels", "ms": 0.0}]
        return {"machine": {}, "versions": {}, "networks": [{"stages": rows}]}

    def measured(candidate, settings):
        simulated.measured.append(candidate)
        return true_ms(candidate) * simulated.factor

    monkeypatch.setattr(latency_budget, "PartFlops", lambda: COUNTING)
    monkeypatch.setattr(latency_budget, "profile_networks", stages)
    monkeypatch.setattr(latency_budget, "_milliseconds", measured)
    return simulated


def true_ms(candidate: Candidate) -> float:
    parts = COUNTING.of(candidate)
    return (parts["backbone"] + parts["neck"] + parts["head"]) * SLOW


def tiny_candidates(sizes=((64, 96), (32, 48))) -> list[Candidate]:
    return candidates(["demo"], NARROW, sizes)


def fit(listed, budget, seconds=ENOUGH) -> list[dict]:
    record = latency_budget.rank_candidates(listed, budget, seconds, Settings(accelerator="cpu"), lambda *_: None)
    assert record["estimated_from"]["recipe"] == "tiny"
    return record["candidates"]


def test_only_candidates_near_the_budget_are_measured(machine):
    listed = tiny_candidates()
    times = sorted(true_ms(one) for one in listed)
    budget = (times[3] + times[4]) / 2
    rows = fit(listed, budget)
    assert len(rows) == len(listed) == 10
    for one in rows:
        true = one["gflops"] * 1e9 * SLOW
        assert one["ms"] == pytest.approx(true)
        assert one["fits"] == (true <= budget)
        assert one["figure"] == ("measured" if true <= 1.25 * budget else "estimated")
    assert sum(one["fits"] for one in rows) == 4


def test_the_order_of_candidates(machine):
    rows = fit(tiny_candidates(), 1e9)
    assert [(one["size"], one["width"]) for one in rows] == [
        (size, width) for size in ([64, 96], [32, 48]) for width in (8, 96, 128, 256, 512)
    ]
    assert [(list(one.size), one.width) for one in machine.measured] == [(one["size"], one["width"]) for one in rows]


def test_a_wider_jpu_comes_before_a_narrower_one(machine):
    rows = fit(candidates(["demo"], [*NARROW, "neck.width=256"], [(32, 48)]), 1e9)
    assert [one["width"] for one in rows] == [256, 512, 128, 96]


def test_with_no_time_one_candidate_is_measured_and_corrects_the_others(machine):
    machine.factor = 3.0
    rows = fit(tiny_candidates(), 1e9, seconds=0.001)
    assert [one["figure"] for one in rows] == ["measured"] + ["estimated"] * 9
    for one in rows:
        assert one["ms"] == pytest.approx(3 * one["gflops"] * 1e9 * SLOW)


def test_too_little_memory_does_not_fit(machine, monkeypatch):
    monkeypatch.setattr(latency_budget, "_milliseconds", lambda *_: float("inf"))
    rows = fit(tiny_candidates(), 1e9)
    assert {(one["ms"], one["fits"], one["figure"]) for one in rows} == {(None, False, "measured")}


def test_real_measurement(monkeypatch):
    monkeypatch.setattr(latency_budget, "LEAST_SECONDS", 0)
    assert 0 < latency_budget._milliseconds(tiny_candidates()[0], Settings(accelerator="cpu")) < float("inf")

    def fails(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(latency_budget.StageProfiler, "run", fails)
    assert latency_budget._milliseconds(tiny_candidates()[0], Settings(accelerator="cpu")) == float("inf")


# The table.


def shown(rows: list[dict], budget: float) -> str:
    machine = {"gpu": None, "processor": "Abacus", "threads": 3}
    text = StringIO()
    record = {"budget_ms": budget, "precision": "32-true", "machine": machine, "candidates": rows}
    SafeConsole(width=120, file=text).print(budget_table(record))
    return text.getvalue()


def row(name: str, ms: float | None, figure: str, fits: bool, width: int | None = 96) -> dict:
    neck = "none" if width is None else "jpu"
    return {"recipes": [name, "other"], "neck": neck, "width": width, "size": [64, 96], "gflops": 1.25, "ms": ms,
            "figure": figure, "fits": fits, "published_miou": 70.5 if width is None else None}  # fmt: skip


def test_the_table_distinguishes_measured_from_estimated():
    text = shown([row("a", 12.5, "measured", True), row("b", 18.0, "estimated", True, None),
                  row("c", 30.0, "measured", False)], 20.0)  # fmt: skip
    lines = [line.split() for line in text.splitlines()]
    assert ["a", "96", "64x96", "1.2", "12.5", "measured"] in lines
    assert ["b", "dilated", "64x96", "1.2", "~", "18", "estimated", "70.50"] in lines
    assert not any(line[:1] == ["c"] for line in lines)
    assert "2 of 3 candidates meet 20 ms" in text
    assert "Abacus" in text


def test_the_fastest_are_listed_if_none_fits():
    rows = [row(str(number), 100.0 - number, "estimated", False) for number in range(5)]
    text = shown([*rows, row("x", None, "measured", False)], 20.0)
    assert "No candidate meets 20 ms" in text
    assert [line.split()[0] for line in text.splitlines() if "64x96" in line] == ["4", "3", "2"]


def test_long_lists_are_truncated():
    text = shown([row("a", 1.0, "measured", True)] * 25, 20.0)
    assert text.count("64x96") == 20
    assert "5 more are in the --json file" in " ".join(text.split())
