"""The tables of README and model zoo: which value is where, and that unknown values stay empty."""

import json

import pytest

import readme_table

JPU, DILATED = "fastfcn_r50_psp_cityscapes_80k_b8", "dilated_r50_psp_cityscapes_80k_b8"


def result(name: str, speed: float, precision: str = "32-true", **training: object) -> dict:
    inference = {
        "precision": precision, "size": [512, 1024], "images_per_second": speed, "p50_ms": 1000 / speed,
        "p95_ms": 1100 / speed, "gflops": 366.4, "share_of_peak": 0.5, "peak_memory_mib": 300.0,
    }  # fmt: skip
    measured = training or {"images_per_second": speed / 10, "peak_memory_mib": 2048.0}
    return {"recipe": name, "inference": inference, "training": {"batch": 2, "crop": [256, 512]} | measured}


def write(folder, name: str, *results: dict, gpu: str | None = None, **more: object) -> None:
    machine = {"processor": "AMD EPYC", "gpu": gpu, "cores": 2, "threads": 2}
    record = {"command": "python x.py", "date": "2026-11-22", "machine": machine, "results": results} | more
    (folder / name).write_text(json.dumps(record))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    return tmp_path


def cells(table: str, name: str) -> dict[str, str]:
    """The line of a recipe by column."""
    lines = table.splitlines()
    row = next(line for line in lines if f"`{name}`" in line)
    return dict(zip(lines[0].split("|"), (cell.strip() for cell in row.split("|")), strict=True))


def test_without_measurements_the_published_scores_remain():
    table = readme_table.model_zoo_tables()
    assert "ours" not in table
    row = cells(table, JPU)
    assert (row[" mIoU "], row[" ms+flip "], row[" memory GB "], row[" images/s "]) == (
        "79.26",
        "80.86",
        "5.67",
        "4.40",
    )


def test_reduced_figures_are_marked_and_others_stay_empty(folder):
    write(folder, "bench_cpu.json", result(JPU, 1.5), result(DILATED, 1.0), reduced="smaller")
    tables = readme_table.model_zoo_tables().split("\n\n")
    title = " ours images/s (2-core AMD EPYC, 512x1024) "
    assert cells(tables[0], JPU)[title] == "1.50"
    assert cells(tables[0], DILATED)[title] == "1.00"
    assert cells(tables[0], "fastfcn_r50_psp_cityscapes_80k_b16")[title] == ""
    assert "ours memory" not in tables[0]
    assert "2 crops of 256x512" in tables[1]
    lines = tables[2].splitlines()
    assert lines[2].startswith("| PSPNet | JPU | 1.5 |")
    assert lines[4] == "|  | JPU : dilated | 1.50x | 0.67x | 0.67x | 1.00x | 1.00x | 1.00x | 1.50x | 1.00x |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_gpu_table_has_a_column_per_precision_and_its_own_memory(folder):
    results = [result(name, 60.0, precision) for precision in ("bf16-mixed", "32-true") for name in (JPU, DILATED)]
    write(folder, "bench_cuda.json", *results, gpu="H100")
    tables = readme_table.model_zoo_tables().split("\n\n")
    row = cells(tables[0], JPU)
    assert (row[" ours images/s (H100, bf16) "], row[" ours memory GB (H100, bf16) "]) == ("60.00", "2.00")
    assert (row[" ours images/s (H100) "], row[" ours memory GB (H100) "]) == ("60.00", "2.00")
    assert len(tables) == 5


def test_too_little_memory_leaves_cells_empty(folder):
    write(folder, "bench_cuda.json", result(JPU, 60.0, out_of_memory="20 GiB"), result(DILATED, 50.0), gpu="V100")
    tables = readme_table.model_zoo_tables().split("\n\n")
    assert cells(tables[0], JPU)[" ours memory GB (V100) "] == ""
    assert tables[2].splitlines()[2].endswith("|  |  |")
    assert tables[2].splitlines()[4].endswith("|  |  |")


def test_the_readme_shows_six_published_networks():
    table = readme_table.readme_table()
    assert len(table.splitlines()) == 8
    row = cells(table, JPU)
    assert (row[" mIoU "], row[" multi-scale + flip "]) == ("79.26", "80.86")
