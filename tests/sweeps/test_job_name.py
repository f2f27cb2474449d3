"""Names of jobs: equal for configs with the same results, else different."""

from __future__ import annotations

import pytest
from conftest import compose
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from geoguesser.commands.configs import resolve_run_config
from geoguesser.runs.config_keys import KEYS_WITHOUT_EFFECT
from geoguesser.sweeps.job_name import NAME_LENGTH, find_job_name, make_job_name, register_resolver, result_config

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def compute_name(*words: str) -> str:
    return make_job_name(resolve_run_config(compose(list(words))))


@pytest.mark.parametrize(
    "words",
    [
        *("logger=csv", "logger.project=other", "name=mine", "pictures=false"),
        *("features.cache=false", "features.limit_gib=1", "data.num_workers=0", "data.memory_gib=0"),
        *("epochs=20", "trainer.max_epochs=20", "trainer.log_every_n_steps=1"),
        *("optimizer.lr=0.0015", "optimizer.lr=1.5e-3"),
        "sweep.name=other sweep.resume=false",
        "grid.size=null density=usual head=classification seed=0",
    ],
)
def test_keys_without_effect_do_not_change_the_name(words):
    assert compute_name(*words.split()) == compute_name()


@pytest.mark.parametrize(
    "word",
    [
        *("seed=1", "split.seed=1", "data.places=900", "image=px56", "features.batch_size=64"),
        *("grid.size=61", "head=regression", "calibration.fraction=0", "optimizer.lr=0.002", "lr_find=true"),
        *("epochs=51", "trainer.max_epochs=51", "callbacks.early_stopping=null", "init_from=some/run"),
    ],
)
def test_keys_with_effect_change_the_name(word):
    assert compute_name(word) != compute_name()


def test_other_data_are_another_job():
    assert compute_name("data=places", "data.roots=[a]") != compute_name("data=places", "data.roots=[b]")


def test_choices_that_a_head_does_not_use_do_not_count():
    unused = ["grid=kmeans", "grid.size=30", "loss=cross_entropy", "decoder=mean", "density=fine"]
    for words in (unused[:1], unused[1:]):
        assert compute_name("head=regression", *words) == compute_name("head=regression")
    assert compute_name("head=classification", "grid.size=30") != compute_name("head=classification")


@given(st.dictionaries(st.text(min_size=1, max_size=4), PLAIN, max_size=5))
def test_the_order_of_keys_does_not_matter(config):
    backwards = dict(reversed(list(config.items())))
    assert make_job_name(config) == make_job_name(backwards)
    assert len(make_job_name(config)) == NAME_LENGTH
    assert set(make_job_name(config)) <= set("0123456789abcdef")


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2)),
    st.sampled_from(KEYS_WITHOUT_EFFECT[""]),
    PLAIN,
)
def test_keys_are_left_out_at_the_top_level_only(config, key, value):
    assert result_config(config | {key: value}) == config
    assert result_config({"a": {key: value}}) == {"a": {key: value}}


def test_each_key_without_effect_exists():
    """A key that is renamed in conf/ must not silently begin to count."""
    config = resolve_run_config(compose(["data=places", "data.roots=[a]"]))
    known = {group: set(config if not group else config[group]) for group in KEYS_WITHOUT_EFFECT}
    # Arguments of the trainer that only the run or the user sets.
    optional = {"trainer": {"enable_progress_bar", "default_root_dir"}}
    for group, names in KEYS_WITHOUT_EFFECT.items():
        assert set(names) - optional.get(group, set()) <= known[group]


def test_the_resolver_ignores_the_node_of_hydra():
    register_resolver()
    cfg = compose(["grid.size=33"])
    merged = OmegaConf.merge({"hydra": {"sweep": {"subdir": "${job_name:}"}, "job": {"num": 3}}}, cfg)
    assert merged.hydra.sweep.subdir == find_job_name(cfg) == compute_name("grid.size=33")


def test_each_refused_config_has_a_different_name():
    """Hydra names the folder before the job can report the error."""
    broken = [compose(["data=places"]), compose(["head._target_=no.such.thing"]), compose(["+sise=3"])]
    names = {find_job_name(cfg) for cfg in broken}
    assert len(names | {compute_name()}) == 4
