"""Comparisons of synthetic runs whose true difference is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.run_folders import compare_folders, make_errors, make_places, write_run

from geoguesser.errors import ConfigError
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import (
    BETTER,
    NOT_CLEAR,
    NOT_COMPARED,
    WITHIN_NOISE,
    WORSE,
    Comparison,
    GroupDifference,
    format_letter,
)
from geoguesser.reporting.comparison.report import make_table
from geoguesser.reporting.comparison.text import format_headline, list_notes

PLACES = make_places(200)


def write(folder: Path, size: int, error_km: np.ndarray, places: pd.DataFrame = PLACES, **more: Any) -> Path:
    """Writes a run of a grid size; runs of different sizes are different groups."""
    return write_run(folder / str(size), places, error_km, changes={"grid.size": size}, **more)


def find_difference(comparison: Comparison) -> GroupDifference:
    """Returns the difference of a comparison of two groups."""
    (difference,) = (entry.difference for entry in comparison.entries if entry.difference is not None)
    return difference


def test_large_differences_are_distinguished_from_noise(tmp_path: Path, croatia):
    folders = [
        write(tmp_path, 60, make_errors(0), val_km=20.0),
        write(tmp_path, 61, make_errors(1), val_km=30.0),
        write(tmp_path, 62, 0.7 * make_errors(2), val_km=40.0),
        write(tmp_path, 63, make_errors(3) + 5.0, val_km=50.0),
    ]
    comparison = compare_folders(croatia, folders)
    verdicts = {entry.label: entry.difference and entry.difference.verdict for entry in comparison.entries}
    labels = [f"grid.size={size}" for size in (60, 61, 62, 63)]
    assert [verdicts[label] for label in labels] == [None, WITHIN_NOISE, BETTER, WORSE]
    means = [entry.mean.value for entry in comparison.entries]
    assert means == sorted(means)
    assert [entry.letter for entry in comparison.entries] == list("ABCD")

    worst = comparison.entries[3]
    assert worst.difference.places == 200
    assert worst.difference.mean.low < 5.0 < worst.difference.mean.high
    assert worst.difference.units.block_km is not None
    assert worst.difference.nearer < 0.3

    # Paired, the interval is far narrower than that of the mean, because the difficulty cancels out.
    width = worst.difference.mean.high - worst.difference.mean.low
    assert width < 0.3 * (worst.mean.high - worst.mean.low)

    base = comparison.entries[comparison.baseline].letter
    same = next(entry.letter for entry in comparison.entries if entry.label == "grid.size=61")
    headline = format_headline(comparison)
    assert headline.startswith(f"Against the baseline {base} (")
    for part in ("A: significantly better", "D: significantly worse", f"{same}: no significant difference"):
        assert part in headline


def test_table_has_the_figures_of_the_predictions(tmp_path: Path, croatia):
    folders = [write(tmp_path, 1, make_errors(0), fit_s=7.0), write(tmp_path, 2, make_errors(1))]
    table = make_table(compare_folders(croatia, folders)).set_index("configuration")
    row = table.loc["grid.size=1"]
    assert row["error_km_mean"] == pytest.approx(make_errors(0).mean())
    assert row["error_km_median"] == pytest.approx(np.median(make_errors(0)))
    assert row["error_km_mean_low"] < row["error_km_mean"] < row["error_km_mean_high"]
    assert (row["fit_s"], row["seeds"], row["runs"], row["grid.size"]) == (7.0, "0", "1", "1")
    change = table["difference_km_mean"].dropna()
    expected = make_errors(1).mean() - make_errors(0).mean()
    assert change.iloc[0] == pytest.approx(expected if change.index[0] == "grid.size=2" else -expected)


def test_few_places_have_no_interval_of_means_but_of_differences(tmp_path: Path, croatia):
    comparison = compare_folders(
        croatia, [write(tmp_path, at, make_errors(at)[:39], PLACES[:39]) for at in (1, 2)]
    )
    for entry in comparison.entries:
        assert (entry.mean.low, entry.mean.high) == (None, None)
        assert entry.median.low < entry.median.value < entry.median.high
    difference = find_difference(comparison)
    assert difference.mean.low < difference.mean.high
    assert any("fewer than 40 places" in note for note in list_notes(comparison))
    assert make_table(comparison)["error_km_mean_low"].isna().all()


def test_baseline_has_the_least_validation_error_or_is_chosen(tmp_path: Path, croatia):
    folders = [write(tmp_path, at, make_errors(at), val_km=val) for at, val in enumerate((30.0, 10.0, 20.0))]
    comparison = compare_folders(croatia, folders)
    assert comparison.entries[comparison.baseline].label == "grid.size=1"
    for word in ("2", str(folders[2]), f"{tmp_path.name}/2/"):
        comparison = compare_folders(croatia, folders, baseline=word)
        assert comparison.entries[comparison.baseline].label == "grid.size=2"
    with pytest.raises(ConfigError, match=r"^baseline must be one of the runs: 0, 1, 2, got 'd'"):
        compare_folders(croatia, folders, baseline="d")


def test_runs_on_different_places_are_compared_on_shared_ones(tmp_path: Path, croatia):
    folders = [
        write(tmp_path, 0, make_errors(0), val_km=1.0),
        write(tmp_path, 1, make_errors(0)[:80] + 3.0, PLACES[:80]),
        write(tmp_path, 2, make_errors(0)[:19], PLACES[:19]),
        write(tmp_path, 3, make_errors(0)[:30], make_places(30, seed=9)),
    ]
    comparison = compare_folders(croatia, folders)
    entries = {entry.label: entry for entry in comparison.entries}
    part, few, none = (entries[f"grid.size={size}"].difference for size in (1, 2, 3))
    assert (part.places, part.verdict) == (80, WORSE)
    assert part.mean.value == pytest.approx(3.0)
    assert (few.places, few.verdict, few.mean) == (19, NOT_COMPARED, None)
    assert (none.places, none.verdict) == (0, NOT_COMPARED)
    assert entries["grid.size=2"].mean.low is None

    assert not comparison.same_places
    assert any("Not all runs were tested on the same places" in note for note in list_notes(comparison))
    assert "not compared, with fewer than 20 test places" in format_headline(comparison)


def test_a_place_that_moved_is_not_shared(tmp_path: Path, croatia):
    moved = PLACES.assign(true_latitude=PLACES["true_latitude"] + 0.01 * (np.arange(200) < 50))
    folders = [write(tmp_path, 0, make_errors(0)), write(tmp_path, 1, make_errors(1), moved)]
    assert find_difference(compare_folders(croatia, folders)).places == 150


def test_order_of_rows_does_not_matter(tmp_path: Path, croatia):
    first, second = (write(tmp_path, size, make_errors(size)) for size in (0, 1))
    turned = write(tmp_path / "turned", 1, make_errors(1)[::-1], PLACES[::-1].reset_index(drop=True))
    straight, mixed = (make_table(compare_folders(croatia, [first, other])) for other in (second, turned))
    pd.testing.assert_frame_equal(straight, mixed)


def write_seeds(folder: Path, size: int, errors: list[np.ndarray]) -> list[Path]:
    return [
        write_run(folder / f"{size}-{seed}", PLACES, error_km, changes={"grid.size": size, "seed": seed})
        for seed, error_km in enumerate(errors)
    ]


def test_seeds_widen_the_interval_and_show_their_spread(tmp_path: Path, croatia):
    entries = []
    for size, step in ((1, 0.0), (2, 8.0)):
        errors = [make_errors(seed, spread_km=1.0) + step * seed for seed in range(3)]
        entries.append(compare_folders(croatia, write_seeds(tmp_path, size, errors)).entries[0])
    steady, varied = entries
    assert steady.seed_std_km < 0.5
    assert varied.seed_std_km == pytest.approx(8.0, abs=0.5)
    assert varied.mean.high - varied.mean.low > 2 * (steady.mean.high - steady.mean.low)
    assert varied.mean.value == pytest.approx(steady.mean.value + 8.0)


def test_a_group_with_one_seed_is_noted(tmp_path: Path, croatia):
    folders = write_seeds(tmp_path, 1, [make_errors(seed) for seed in range(3)])
    comparison = compare_folders(croatia, [*folders, write(tmp_path, 2, make_errors(9))])
    single = next(entry.letter for entry in comparison.entries if entry.seed_std_km is None)
    (note,) = (note for note in list_notes(comparison) if "one seed" in note)
    assert note.startswith(f"{single} has one seed")
    assert "standard deviation" in note


def test_verdicts_account_for_the_number_of_comparisons(tmp_path: Path, croatia):
    # Symmetric values of mean 0; the shift gives a p-value near 0.01.
    values = np.random.default_rng(3).permutation(5.0 * stats.norm.ppf((np.arange(200) + 0.5) / 200))
    shift = 2.7 * 5.0 / np.sqrt(200)
    base = write(tmp_path, 0, make_errors(0) + 100.0, val_km=1.0)
    near = write(tmp_path, 1, make_errors(0) + 100.0 + values + shift)

    settings = BootstrapSettings(samples=5000, block_km=0.0)
    alone = find_difference(compare_folders(croatia, [base, near], settings))
    assert 0.001 < alone.p < 0.05
    assert alone.verdict == WORSE

    many = [write(tmp_path, size, 100.0 + make_errors(0) + values[::-1]) for size in range(2, 13)]
    comparison = compare_folders(croatia, [base, near, *many], settings)
    among = next(entry.difference for entry in comparison.entries if entry.label == "grid.size=1")
    assert among.p == alone.p
    assert among.p_holm > 0.05
    assert among.verdict == NOT_CLEAR
    assert any("12 comparisons were made" in note for note in list_notes(comparison))


def test_equal_runs_are_within_noise(tmp_path: Path, croatia):
    difference = find_difference(
        compare_folders(croatia, [write(tmp_path, size, make_errors(0)) for size in range(2)])
    )
    assert (difference.mean.value, difference.mean.low, difference.mean.high) == (0.0, 0.0, 0.0)
    assert (difference.verdict, difference.nearer, difference.p) == (WITHIN_NOISE, 0.5, 1.0)


def test_one_configuration_has_a_headline_and_its_name(tmp_path: Path, croatia):
    comparison = compare_folders(croatia, [write(tmp_path, 60, make_errors(0))])
    assert format_headline(comparison).startswith("One configuration: mean error ")
    assert comparison.entries[0].label == "60"


def test_letters_continue_after_z():
    ranks = (0, 25, 26, 51, 52, 701, 702)
    assert [format_letter(rank) for rank in ranks] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]
