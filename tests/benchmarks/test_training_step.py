"""benchmarks/training_step.py: ratios, bounds, table and loading; mmsegmentation is not needed."""

import sys
from unittest.mock import create_autospec

import pytest
from PIL import Image

from tests.helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import training_step

RESULT = {
    "date": "2026-11-22",
    "machine": {"processor": "P", "threads": 2},
    "versions": {"torch": "2.15.0"},
    "setting": {"size": (256, 512), "batch": 2},
    "loading": {"images_per_second": 41.4},
}


def rows(ours: float, growth: float) -> list[dict]:
    theirs = {"variant": "mmsegmentation", "median_ms": 1000.0, "growth_mib": 2000.0}
    return [theirs, {"variant": "fastfcn", "median_ms": ours, "growth_mib": growth}]


def test_bounds_that_hold():
    result = training_step.compared(rows(500.0, 1000.0), (1.6, 0.55))
    assert (result["times_as_fast"], result["growth_ratio"], result["missed"]) == (2.0, 0.5, [])


def test_bounds_that_do_not():
    result = training_step.compared(rows(800.0, 1200.0), (1.6, 0.55))
    assert result["missed"] == ["1.25 times as fast, target 1.6", "0.60 of the memory, target 0.55"]


def test_a_side_that_fails_misses():
    failed = [rows(1.0, 1.0)[0], {"variant": "fastfcn", "failed": "out of memory"}]
    assert training_step.compared(failed, (1.2, 0.75))["missed"] == ["fastfcn: out of memory"]


def test_every_network_has_its_bounds():
    assert training_step.BOUNDS.keys() == set(training_step.NETWORKS)
    assert training_step.BOUNDS["enc", 150] == (1.6, 0.55)
    assert training_step.BOUNDS["aspp", 19] == (1.2, 0.75)


def test_sides_take_turns_on_the_same_network():
    steps = training_step.comparison("psp", 150, (256, 512), 2)
    assert [variant.program for variant in steps.variants] == ["mmsegmentation_training", "fastfcn_training"]
    assert len({variant.network for variant in steps.variants}) == 1
    assert steps.batch == 2


def test_the_table_is_between_its_markers():
    networks = {"psp_19": training_step.compared(rows(800.0, 1400.0), (1.2, 0.75))}
    networks["enc_19"] = training_step.compared([rows(1.0, 1.0)[0], {"variant": "fastfcn", "failed": "it"}], (1.6, 0.5))
    opening, closing = training_step.MARKS
    text = training_step.with_table(f"before\n{opening}stale\n{closing}\nafter\n", RESULT | {"networks": networks})
    assert text.startswith("before\n" + opening + "2026-11-22, P, 2 thread(s), torch 2.15.0")
    assert "One process loads 41 CamVid images a second." in text
    assert "| psp_19 | 1000 | 800 | 1.25 | 2000 | 1400 | 0.70 | met |" in text
    assert "| fastfcn: it |" in text
    assert "stale" not in text
    assert text.endswith(closing + "\nafter\n")
    assert (ROOT / "benchmarks/README.md").read_text(encoding="utf-8").count(opening) == 1


def test_loading_counts_images(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_step, "LOADED", 2)
    for kind in ("train", "trainannot", "val", "valannot"):
        (tmp_path / kind).mkdir()
        for name in range(3):
            image = Image.new("L", (480, 360), name) if "annot" in kind else Image.new("RGB", (480, 360))
            image.save(tmp_path / kind / f"{name}.png")
    result = training_step.loading(tmp_path)
    assert (result["images"], result["recipe"]) == (2, "fastfcn_r50_psp_camvid")
    assert result["images_per_second"] > 0


def test_missed_targets_are_reported(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    measured = create_autospec(training_step.measure.run, return_value=rows(800.0, 1400.0))
    monkeypatch.setattr(training_step.measure, "run", measured)
    monkeypatch.setattr(training_step, "circumstances", lambda seconds: dict(RESULT))  # needs mmsegmentation
    monkeypatch.setattr(sys, "argv", ["training_step.py", "--only", "enc_19", "--camvid", str(tmp_path / "none")])
    with pytest.raises(
        SystemExit, match=r"enc_19: 1.25 times as fast, target 1.6\nenc_19: 0.70 of the memory, target 0.55"
    ):
        training_step.main()
    assert measured.call_args.args[0].name == "enc_19"
    assert "| enc_19 | 1000 | 800 | 1.25 |" in capsys.readouterr().out
