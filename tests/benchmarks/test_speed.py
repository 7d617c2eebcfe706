"""benchmarks/speed.py: comparisons, merging of rows, tables and targets; the peers are not needed."""

import sys

import pytest

from tests.helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from speed_peers import bounds, comparisons, results

FACTS = {
    "machine": {"processor": "P", "gpu": None, "threads": 2},
    "versions": {"torch": "2.15.0"},
    "peaks": {"float32": ("float32", 300.0)},
}
STREET = "psp_19_512x1024"


def row(variant: str, median: float, others: dict[str, float], date: str = "2026-11-22 10:00", **more) -> dict:
    ratios = {name: other / median for name, other in others.items()}
    figures = {"median_ms": median, "images_per_second": 1000 / median, "loaded_mib": 100.0, "growth_mib": 200.0}
    start = {"comparison": STREET, "variant": variant, "precision": "float32", "times_as_fast_as": ratios, "date": date}
    return start | figures | more


def record_of(rows: list[dict]) -> dict:
    return results.merged({"rows": []}, rows, FACTS, "cpu")


def result_of(rows: list[dict], start: str) -> str | None:
    """The verdict on the bound whose text begins with `start`."""
    return next((entry["result"] for entry in record_of(rows)["criteria"] if entry["bound"].startswith(start)), None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bounds_refer_to_existing_variants(device):
    variants = {
        comparison.name: {variant.name for variant in comparison.variants}
        for comparison in comparisons.comparisons(device, False, None)
    }
    for bound in bounds.BOUNDS[device]:
        assert {bound.variant, bound.rival or bound.variant} <= variants[bound.comparison], bound


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", [None, (64, 128)])
def test_names_and_references_of_comparisons(device, size):
    every = comparisons.comparisons(device, True, size)
    names = [comparison.name for comparison in every]
    assert len(set(names)) == len(names)
    for comparison in every:
        own = [variant.name for variant in comparison.variants]
        assert len(set(own)) == len(own)
        assert {variant.reference for variant in comparison.variants if variant.reference} <= set(own)
        assert comparison.size == (size or comparison.size)


def test_one_size_keeps_the_comparison_with_most_variants():
    every = comparisons.comparisons("cpu", False, (64, 128))
    (only,) = [comparison for comparison in every if comparison.name == "psp_19_64x128"]
    assert "openvino" in {variant.name for variant in only.variants}


def test_only_matches_comparisons_or_variants():
    assert results.matches(None, STREET, "fastfcn")
    assert results.matches(["psp*"], STREET, "fastfcn")
    assert results.matches(["enc*", "*/fast*"], STREET, "fastfcn")
    assert not results.matches(["enc*", "*/fastfcn"], STREET, "fastfcn_plain")


def test_a_new_measurement_replaces_only_its_row():
    first = record_of([row("mmsegmentation", 3000.0, {"fastfcn": 1000.0}), row("fastfcn", 1000.0, {})])
    again = results.merged(first, [row("fastfcn", 900.123456, {"mmsegmentation": 2970.0})], FACTS, "cpu")
    assert [row["variant"] for row in again["rows"]] == ["mmsegmentation", "fastfcn"]
    assert [row["median_ms"] for row in again["rows"]] == [3000.0, 900.12]


def test_speed_ratio_is_from_the_latest_run_of_both():
    old = row("mmsegmentation", 3000.0, {"fastfcn": 1000.0})
    assert result_of([old, row("fastfcn", 800.0, {})], f"{STREET}: fastfcn ≥ 3.3x") == "missed"
    new = row("fastfcn", 800.0, {"mmsegmentation": 3000.0}, date="2026-11-22 10:01")
    assert result_of([old, new], f"{STREET}: fastfcn ≥ 3.3x") == "met"
    assert result_of([row("mmsegmentation", 3000.0, {}), row("fastfcn", 800.0, {})], f"{STREET}: fastfcn ≥") is None


def test_bounds_of_memory_and_agreement():
    theirs = row("mmsegmentation", 3000.0, {})
    start = f"{STREET}: fastfcn ≤ 2.2x of the loaded size"
    assert result_of([theirs, row("fastfcn", 900.0, {}, loaded_mib=219.0)], start) == "met"
    assert result_of([theirs, row("fastfcn", 900.0, {}, loaded_mib=221.0)], start) == "missed"
    for share, verdict in ((0.9999, "met"), (0.99989, "missed")):
        mine = row("fastfcn", 900.0, {}, reference="mmsegmentation", agreement=share)
        assert result_of([theirs, mine], f"{STREET}: fastfcn ≥ 99.99%") == verdict


def test_failed_variants_are_listed_without_verdict():
    failed = {"comparison": STREET, "variant": "fastfcn", "failed": "RuntimeError", "date": "2026-11-22 10:00"}
    record = record_of([row("mmsegmentation", 3000.0, {}), failed])
    assert record["criteria"] == []
    assert "| fastfcn | failed |" in "\n".join(results.tables(record))


def test_rows_of_other_machines_are_not_mixed():
    results.check_same_machine({"rows": []}, FACTS["machine"])
    results.check_same_machine({"rows": [], **FACTS}, FACTS["machine"])
    with pytest.raises(SystemExit, match="threads 2, now 4"):
        results.check_same_machine({"rows": [], **FACTS}, FACTS["machine"] | {"threads": 4})


@pytest.mark.parametrize("name", ["speed_cpu", "speed_cpu_avx2", "speed_cuda"])
def test_tables_are_made_from_the_results(name):
    text = results.README.read_text(encoding="utf-8")
    assert results.marks(name)[0] in text
    path = results.RESULTS / f"{name}.json"
    if path.exists():
        message = f"run: python benchmarks/speed.py --tables --out {path.relative_to(results.ROOT)}"
        assert results.with_tables(text, name, results.read(path)) == text, message
