"""`fastfcn profile`: JSON, table and chart of the stages and of a latency budget; and its errors."""

import json
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from fastfcn.bench import profile as profiles
from fastfcn.bench.measure import Settings
from fastfcn.bench.profile import stage_order
from fastfcn.bench.stage_chart import LEFT, RIGHT, WIDTH, stage_chart, stage_colors
from fastfcn.bench.stage_profiler import StageProfiler
from fastfcn.cli.tables.profile import stage_table
from fastfcn.utils.console import SafeConsole
from tests.cli.test_errors import assert_refused
from tests.helpers.command import fastfcn
from tests.helpers.tiny import tiny_recipe

RESNET = 'backbone={kind="resnet", name="resnet18", pretrained="none", strides=[1, 2, 2, 2], dilations=[1, 1, 1, 1], style="pytorch"}'  # noqa: E501


def row(stage: str, ms: float, **more: float) -> dict:
    figures = {"parameters": 1_500_000, "gflops": 2.0, "weights_mib": 3.0, "output_mib": 1.0}
    return {"stage": stage, "ms": ms} | figures | more


def record(**more: float) -> dict:
    shared = [row("image", 1.0), row("stem", 9.0), row("layer1", 20.0)]
    jpu = [*shared, row("layer4", 30.0, **more), row("neck", 60.0), row("head", 70.0), row("labels", 10.0)]
    dilated = [*shared, row("layer4", 280.0), row("head", 80.0), row("labels", 10.0)]
    machine = {"device": "cpu", "gpu": None, "processor": "Abacus", "threads": 3}
    common = {"head": "psp", "runs": 5}
    return {
        "size": [64, 96], "precision": "32-true", "machine": machine, "cores_busy": 2.9,
        "networks": [
            {"name": "fast", "neck": "jpu", "ms_unmarked": 199.0, "stages": jpu} | common,
            {"name": "slow", "neck": "none", "ms_unmarked": 398.0, "stages": dilated} | common,
        ],
    }  # fmt: skip


def lines(profile: dict, width: int = 80) -> list[list[str]]:
    text = StringIO()
    SafeConsole(width=width, file=text).print(stage_table(profile))
    return [line.split() for line in text.getvalue().splitlines()]


def test_stages_side_by_side():
    shown = lines(record())
    assert ["layer4", "1.50", "2.00", "30", "4.0", "1.50", "2.00", "280", "4.0"] in shown
    assert ["neck", "(JPU)", "1.50", "2.00", "60", "4.0"] in shown
    assert ["all", "10.50", "14.0", "200", "28.0", "9.00", "12.0", "400", "24.0"] in shown
    assert ["JPU:", "fast"] in shown
    assert ["dilated:", "slow"] in shown
    assert "199, 398 ms in total" in " ".join(word for line in shown for word in line)


def test_a_busy_machine_is_reported():
    quiet, busy = (
        " ".join(word for line in lines(record() | {"cores_busy": cores}) for word in line) for cores in (2.9, 1.5)
    )
    assert "Only" not in quiet
    assert "Only 1.5 of 3 CPU cores" in busy


def test_memory_growth_is_shown_if_measured():
    profile = record()
    del profile["networks"][1]
    assert not any("peak" in line for line in lines(profile))
    for number, one in enumerate(profile["networks"][0]["stages"]):
        one["peak_growth_mib"] = float(number)
    shown = lines(profile)
    assert ["neck", "(JPU)", "1.50", "2.00", "60", "4.0", "4.0"] in shown
    assert ["all", "10.50", "14.0", "200", "28.0", "6.0"] in shown  # the highest: peaks do not add up


def test_the_size_is_that_of_the_network_input():
    settings = Settings(runs=1, accelerator="cpu")
    profilers = [
        StageProfiler(tiny_recipe(f"eval.resize={resize}"), (64, 96), settings) for resize in ('"none"', "[128,192]")
    ]
    for profiler in profilers:
        profiler.measure_memory()
    assert profilers[0].output_bytes == profilers[1].output_bytes


def test_bar_lengths():
    profile = record()
    pixels = np.asarray(stage_chart(profile))
    colors = stage_colors(stage_order(profile))
    assert len(set(colors.values())) == 7
    unit = (WIDTH - LEFT - RIGHT) / 400  # the longer bar's milliseconds
    # Rows of pixels where bars begin; nothing in the legend is as wide as the head's bar.
    long_heads = [(row == colors["head"]).all(1).sum() > 50 for row in pixels]
    bars = [y for y in range(1, len(pixels)) if long_heads[y] and not long_heads[y - 1]][:2]
    for y, network in zip(bars, profile["networks"], strict=True):
        for one in network["stages"]:
            long = (pixels[y + 3] == colors[one["stage"]]).all(1).sum()
            assert long == pytest.approx(one["ms"] * unit - 1, abs=1.1), one["stage"]


def test_command(tmp_path):
    """In a fresh process, as a user runs it."""
    tiny_recipe(RESNET).save(tmp_path / "tiny.toml")
    done = fastfcn("profile", tmp_path / "tiny.toml", "neck.width=16", "--size", "32x48", "--runs", 2, "--threads", 1,
                   "--device", "cpu", "--json", tmp_path / "out" / "p.json",
                   "--chart", tmp_path / "out" / "p.png")  # fmt: skip
    assert done.code == 0, done
    profile = json.loads((tmp_path / "out" / "p.json").read_text())
    keys = {"command", "date", "seconds", "size", "precision", "changes", "notes"}
    assert profile.keys() == keys | {"machine", "versions", "cores_busy", "networks"}
    assert (profile["size"], profile["changes"], profile["machine"]["threads"]) == ([32, 48], ["neck.width=16"], 1)
    assert [(one["name"], one["neck"], one["runs"]) for one in profile["networks"]] == [
        ("tiny", "jpu", 2), ("tiny_dilated", "none", 2),
    ]  # fmt: skip
    for network in profile["networks"]:
        assert set(network["stages"][0]) - {"stage"} <= profile["notes"].keys()
    fast, slow = ({one["stage"]: one for one in network["stages"]} for network in profile["networks"])
    assert slow["layer4"]["gflops"] == pytest.approx(
        16 * fast["layer4"]["gflops"], rel=0.3
    )  # 4 times as fine both ways
    assert fast["layer4"]["parameters"] == slow["layer4"]["parameters"]
    assert "neck (JPU)" in done.out
    with Image.open(tmp_path / "out" / "p.png") as chart:
        assert chart.width == WIDTH


def test_budget_command(tmp_path):
    tiny_recipe().save(tmp_path / "tiny.toml")
    done = fastfcn("profile", tmp_path / "tiny.toml", "--budget", "100 s", "--size", "32x48", "--threads", 1,
                   "--seconds", 0, "--device", "cpu", "--json", tmp_path / "b.json")  # fmt: skip
    assert done.code == 0, done
    profile = json.loads((tmp_path / "b.json").read_text())
    assert profile["budget_ms"] == 100_000
    assert profile["estimated_from"]["recipe"] == "tiny"
    rows = profile["candidates"]
    assert [one["figure"] for one in rows] == ["measured"] + ["estimated"] * 14  # five widths, three sizes
    assert all(one["fits"] and one["recipes"] == ["tiny"] for one in rows)
    assert {tuple(one["size"]) for one in rows} == {(32, 48), (16, 24), (8, 12)}
    assert set(rows[0]) - {"neck", "size", "fits"} <= profile["notes"].keys()
    assert "15 of 15 candidates meet 1e+05 ms" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Name one recipe", "--budget"]),
        (["demo", "fastfcn_r50_psp_camvid"], ["Name one recipe"]),
        (["fastfcn_r50_psp_citiscapes"], ["There is no recipe"]),
        (["demo", "neck.width=no"], ["neck.width"]),
        (["demo", "--size", "512"], ["Invalid image size '512'"]),
        (["demo", "--precision", "fp8"], ["fp8"]),
        (["demo", "--device", "tpu"], ["tpu"]),
        (["demo", "--chart", "stages"], ["stages", "FILE.png"]),
        (["--budget", "soon"], ["Invalid latency budget 'soon'"]),
        (["nothing", "--budget", "20 ms"], ["There is no recipe"]),
    ],
)
def test_errors_before_measuring(arguments, words, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "in_fresh_process", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    assert_refused(fastfcn("profile", *arguments), *words)


def test_a_killed_process_ran_out_of_memory(monkeypatch):
    def killed(*_, **__):
        raise MemoryError("the system killed the process")

    monkeypatch.setattr(profiles, "in_fresh_process", killed)
    assert_refused(fastfcn("profile", "demo"), "Out of memory", "--size")
