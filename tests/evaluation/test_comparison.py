"""Comparisons of synthetic runs whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.run_folders import make_places, write_run

from geoguesser.commands.compare import load_choices, read_config
from geoguesser.errors import ConfigError
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import (
    BETTER,
    NOT_CLEAR,
    NOT_COMPARED,
    WITHIN_NOISE,
    WORSE,
    Comparison,
    compare_groups,
    format_letter,
)
from geoguesser.reporting.comparison.report import make_table
from geoguesser.reporting.comparison.text import format_headline, list_notes
from geoguesser.runs.run_folder import read_runs

PLACES = make_places(200)
HARD = np.random.default_rng(0).gamma(2.0, 15.0, 200)  # how hard each place is, for all runs
QUICK = BootstrapSettings(samples=1000)


def own_noise(seed: int, spread: float = 4.0) -> np.ndarray:
    return np.abs(HARD + spread * np.random.default_rng(100 + seed).normal(size=200))


def compared(region: Any, folders: list[Path], **more: Any) -> Comparison:
    runs, unused = read_runs([str(folder) for folder in folders], read_config)
    return compare_groups(runs, unused, region, more.pop("settings", QUICK), choices=load_choices(), **more)


def size(number: int, **more: Any) -> dict[str, Any]:
    return {"grid.size": number, **more}


def test_a_large_difference_is_told_from_none(tmp_path: Path, croatia):
    folders = [
        write_run(tmp_path / "base", PLACES, own_noise(0), changes=size(60), val_km=20.0),
        write_run(tmp_path / "same", PLACES, own_noise(1), changes=size(61), val_km=30.0),
        write_run(tmp_path / "good", PLACES, 0.7 * own_noise(2), changes=size(62), val_km=40.0),
        write_run(tmp_path / "bad", PLACES, own_noise(3) + 5.0, changes=size(63), val_km=50.0),
    ]
    found = compared(croatia, folders)
    verdicts = {
        entry.label: None if entry.difference is None else entry.difference.verdict for entry in found.entries
    }
    assert verdicts == {
        "grid.size=60": None,
        "grid.size=61": WITHIN_NOISE,
        "grid.size=62": BETTER,
        "grid.size=63": WORSE,
    }
    means = [entry.mean.value for entry in found.entries]
    assert means == sorted(means)
    assert [entry.letter for entry in found.entries] == list("ABCD")
    bad = found.entries[3].difference
    assert bad is not None
    assert bad.mean is not None
    assert bad.places == 200
    assert bad.mean.low < 5.0 < bad.mean.high
    # Paired, the interval is far narrower than the runs' own, for what is hard for both cancels out.
    own = found.entries[3].mean
    assert bad.mean.high - bad.mean.low < 0.3 * (own.high - own.low)
    assert bad.units is not None
    assert bad.units.block_km is not None
    assert bad.nearer < 0.3
    base = found.entries[found.baseline].letter
    same = next(entry.letter for entry in found.entries if entry.label == "grid.size=61")
    assert format_headline(found).startswith(f"Against the baseline {base} (")
    assert (
        f"A: better than it beyond noise; D: worse beyond noise; {same}: within noise of it."
        in format_headline(found)
    )


def test_figures_are_those_of_the_predictions(tmp_path: Path, croatia):
    one = write_run(tmp_path / "one", PLACES, own_noise(0), changes=size(1), fit_s=7.0)
    two = write_run(tmp_path / "two", PLACES, own_noise(1), changes=size(2))
    table = make_table(compared(croatia, [one, two])).set_index("configuration")
    row = table.loc["grid.size=1"]
    assert row["error_km_mean"] == pytest.approx(own_noise(0).mean())
    assert row["error_km_median"] == pytest.approx(np.median(own_noise(0)))
    assert row["error_km_mean_low"] < row["error_km_mean"] < row["error_km_mean_high"]
    assert (row["fit_s"], row["seeds"], row["runs"], row["grid.size"]) == (7.0, "0", "one", "1")
    change = table["difference_km_mean"].dropna()
    expected = own_noise(1).mean() - own_noise(0).mean()
    assert change.iloc[0] == pytest.approx(expected if change.index[0] == "grid.size=2" else -expected)


def test_means_of_few_places_have_no_interval_but_differences_have(tmp_path: Path, croatia):
    one = write_run(tmp_path / "one", PLACES[:39], own_noise(0)[:39], changes=size(1))
    two = write_run(tmp_path / "two", PLACES[:39], own_noise(1)[:39], changes=size(2))
    found = compared(croatia, [one, two])
    for entry in found.entries:
        assert (entry.mean.low, entry.mean.high) == (None, None)
        assert entry.median.low < entry.median.value < entry.median.high
    (difference,) = (entry.difference for entry in found.entries if entry.difference is not None)
    assert difference.mean.low < difference.mean.high
    assert any("fewer than 40 places" in note and "no interval" in note for note in list_notes(found))
    assert make_table(found)["error_km_mean_low"].isna().all()


def test_the_baseline_is_the_one_of_least_validation_error_or_the_users(tmp_path: Path, croatia):
    folders = [
        write_run(tmp_path / name, PLACES, own_noise(at), changes=size(at), val_km=val)
        for at, (name, val) in enumerate((("a", 30.0), ("b", 10.0), ("c", 20.0)))
    ]
    found = compared(croatia, folders)
    assert found.entries[found.baseline].label == "grid.size=1"
    for word in ("c", str(folders[2]), f"{tmp_path.name}/c/"):
        chosen = compared(croatia, folders, baseline=word)
        assert chosen.entries[chosen.baseline].label == "grid.size=2"
    with pytest.raises(ConfigError, match=r"^baseline must be one of the runs: a, b, c, got 'd'\.$"):
        compared(croatia, folders, baseline="d")


def test_runs_on_other_places_are_compared_on_those_they_share(tmp_path: Path, croatia):
    folders = [
        write_run(tmp_path / "all", PLACES, own_noise(0), changes=size(0), val_km=1.0),
        write_run(tmp_path / "part", PLACES[:80], own_noise(0)[:80] + 3.0, changes=size(1)),
        write_run(tmp_path / "few", PLACES[:19], own_noise(0)[:19], changes=size(2)),
        write_run(tmp_path / "none", make_places(30, seed=9), own_noise(0)[:30], changes=size(3)),
    ]
    found = compared(croatia, folders)
    by_label = {entry.label: entry for entry in found.entries}
    part, few, none = (by_label[f"grid.size={at}"].difference for at in (1, 2, 3))
    assert part.places == 80
    assert part.mean.value == pytest.approx(3.0)
    assert part.verdict == WORSE
    assert (few.places, few.verdict, few.mean) == (19, NOT_COMPARED, None)
    assert (none.places, none.verdict) == (0, NOT_COMPARED)
    assert by_label["grid.size=2"].mean.low is None
    assert any("Not all runs were tested on the same places" in note for note in list_notes(found))
    assert "not compared, because they share fewer than 20 test places" in format_headline(found)
    assert not found.same_places


def test_a_place_that_moved_is_not_shared(tmp_path: Path, croatia):
    moved = PLACES.assign(true_latitude=PLACES["true_latitude"] + 0.01 * (np.arange(200) < 50))
    folders = [
        write_run(tmp_path / "one", PLACES, own_noise(0), changes=size(0)),
        write_run(tmp_path / "two", moved, own_noise(1), changes=size(1)),
    ]
    (difference,) = (one.difference for one in compared(croatia, folders).entries if one.difference)
    assert difference.places == 150


def test_the_order_of_rows_does_not_matter(tmp_path: Path, croatia):
    turned = PLACES[::-1].reset_index(drop=True)
    straight = [write_run(tmp_path / f"s{at}", PLACES, own_noise(at), changes=size(at)) for at in range(2)]
    mixed = [straight[0], write_run(tmp_path / "m1", turned, own_noise(1)[::-1], changes=size(1))]
    one, other = (make_table(compared(croatia, folders)).drop(columns="runs") for folders in (straight, mixed))
    pd.testing.assert_frame_equal(one, other)


def test_seeds_widen_the_interval_and_show_their_spread(tmp_path: Path, croatia):
    def folders(name: str, luck: list[float]) -> list[Path]:
        return [
            write_run(tmp_path / f"{name}{seed}", PLACES, own_noise(seed, 1.0) + more, changes=size(5, seed=seed))
            for seed, more in enumerate(luck)
        ]

    steady, lucky = (compared(croatia, folders(*one)).entries[0] for one in (("a", [0, 0, 0]), ("b", [0, 8, 16])))
    assert lucky.seed_std_km == pytest.approx(8.0, abs=0.5)
    assert steady.seed_std_km < 0.5
    assert lucky.mean.high - lucky.mean.low > 2 * (steady.mean.high - steady.mean.low)
    assert lucky.mean.value == pytest.approx(steady.mean.value + 8.0)


def test_one_seed_beside_several_is_said(tmp_path: Path, croatia):
    folders = [
        write_run(tmp_path / f"a{seed}", PLACES, own_noise(seed), changes=size(1, seed=seed)) for seed in range(3)
    ]
    folders.append(write_run(tmp_path / "b", PLACES, own_noise(9), changes=size(2)))
    found = compared(croatia, folders)
    single = next(entry.letter for entry in found.entries if entry.seed_std_km is None)
    (note,) = (one for one in list_notes(found) if "one seed" in one)
    assert note.startswith(f"{single} has one seed")
    assert "standard deviation" in note


def test_what_is_clear_alone_may_not_be_among_many(tmp_path: Path, croatia):
    even = np.random.default_rng(3).permutation(5.0 * stats.norm.ppf((np.arange(200) + 0.5) / 200))  # mean 0
    change = even + 2.7 * 5.0 / np.sqrt(200)  # a p-value near 0.01
    near = write_run(tmp_path / "near", PLACES, own_noise(0) + change + 100.0, changes=size(1))
    far = write_run(tmp_path / "far", PLACES, own_noise(0) + 100.0, changes=size(0, seed=4), val_km=1.0)
    settings = BootstrapSettings(samples=5000, block_km=0.0)
    (alone,) = (
        one.difference for one in compared(croatia, [far, near], settings=settings).entries if one.difference
    )
    many = [
        write_run(tmp_path / f"n{at}", PLACES, 100.0 + own_noise(0) + even[::-1], changes=size(at + 2))
        for at in range(1, 12)
    ]
    found = compared(croatia, [far, near, *many], settings=settings)
    among = next(entry.difference for entry in found.entries if entry.label == "grid.size=1")
    assert 0.001 < alone.p < 0.05
    assert alone.verdict == WORSE
    assert among.p == alone.p
    assert among.p_holm > 0.05
    assert among.verdict == NOT_CLEAR
    assert any("12 comparisons were made" in note for note in list_notes(found))


def test_runs_that_say_the_same_are_within_noise(tmp_path: Path, croatia):
    folders = [write_run(tmp_path / f"{at}", PLACES, own_noise(0), changes=size(at)) for at in range(2)]
    (difference,) = (one.difference for one in compared(croatia, folders).entries if one.difference)
    assert (difference.mean.value, difference.mean.low, difference.mean.high) == (0.0, 0.0, 0.0)
    assert (difference.verdict, difference.nearer, difference.p) == (WITHIN_NOISE, 0.5, 1.0)


def test_one_configuration_has_nothing_to_be_compared_with(tmp_path: Path, croatia):
    found = compared(croatia, [write_run(tmp_path / "one", PLACES, own_noise(0))])
    assert format_headline(found).startswith("One configuration: mean error ")
    assert found.entries[0].label == "one"


def test_letters_go_on_after_z():
    assert [format_letter(rank) for rank in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]
