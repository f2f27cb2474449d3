"""Names of jobs: the same for what gives the same results, another for all else."""

from __future__ import annotations

import json

import pytest
from conftest import compose
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from geoguesser.commands.configs import resolve
from geoguesser.runs.config_keys import WITHOUT_EFFECT
from geoguesser.sweeps.job_name import NAME_LENGTH, find_job_name, make_job_name, register_resolver, result_config

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def name(*words: str) -> str:
    return make_job_name(resolve(compose(list(words))))


@pytest.mark.parametrize(
    "words",
    [
        ["logger=csv"],
        ["logger.project=other"],
        ["name=mine"],
        ["pictures=false"],
        ["features.cache=false"],
        ["features.limit_gib=1"],
        ["data.num_workers=0"],
        ["data.memory_gib=0"],
        ["trainer.log_every_n_steps=1"],
        ["sweep.name=other", "sweep.resume=false"],
        ["grid.size=null", "density=usual", "head=classification", "seed=0"],  # said, though it is so anyway
        ["optimizer.lr=0.0015"],
        ["optimizer.lr=1.5e-3"],
        ["epochs=20"],
        ["trainer.max_epochs=20"],
    ],
)
def test_what_does_not_change_results_does_not_change_the_name(words):
    assert name(*words) == name()


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1"],
        ["split.seed=1"],
        ["grid.size=61"],
        ["head=regression"],
        ["optimizer.lr=0.002"],
        ["features.batch_size=64"],
        ["data.places=900"],
        ["image=px56"],
        ["calibration.fraction=0"],
        ["trainer.max_epochs=51"],
        ["epochs=51"],
        ["callbacks.early_stopping=null"],
        ["init_from=some/run"],
        ["lr_find=true"],
    ],
)
def test_what_changes_results_changes_the_name(words):
    assert name(*words) != name()


def test_other_data_are_another_job():
    assert name("data=places", "data.roots=[a]") != name("data=places", "data.roots=[b]")


def test_choices_that_a_head_does_not_use_do_not_count():
    plain = name("head=regression")
    assert name("head=regression", "grid.size=30", "loss=cross_entropy", "decoder=mean", "density=fine") == plain
    assert name("head=regression", "grid=kmeans") == plain
    assert name("head=classification", "grid.size=30") != name("head=classification")


@given(st.dictionaries(st.text(min_size=1, max_size=4), PLAIN, max_size=5))
def test_the_order_of_keys_is_nothing(config):
    backwards = dict(reversed(list(config.items())))
    assert make_job_name(config) == make_job_name(backwards)
    assert len(make_job_name(config)) == NAME_LENGTH
    assert set(make_job_name(config)) <= set("0123456789abcdef")


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2)), st.sampled_from(WITHOUT_EFFECT[""]), PLAIN)
def test_what_is_left_out_is_left_out_at_the_top_alone(config, key, value):
    assert result_config(config | {key: value}) == config
    assert result_config({"a": {key: value}}) == {"a": {key: value}}


def test_every_key_that_is_left_out_is_one():
    """A key that is renamed in conf/ must not silently begin to count."""
    config = resolve(compose(["data=places", "data.roots=[a]"]))
    known = {group: set(config if not group else config[group]) for group in WITHOUT_EFFECT}
    optional = {"trainer": {"enable_progress_bar", "default_root_dir"}}  # the experiment's own, or the user's
    for group, names in WITHOUT_EFFECT.items():
        assert set(names) - optional.get(group, set()) <= known[group]


def test_the_resolver_sees_the_task_and_not_hydra():
    register_resolver()
    cfg = compose(["grid.size=33"])
    both = OmegaConf.merge({"hydra": {"sweep": {"subdir": "${job_name:}"}, "job": {"num": 3}}}, cfg)
    assert both.hydra.sweep.subdir == find_job_name(cfg) == name("grid.size=33")


def test_a_config_that_is_refused_has_a_name_of_its_own():
    """Hydra names the folder before the job can say what is wrong."""
    broken = [compose(["data=places"]), compose(["head._target_=no.such.thing"]), compose(["+sise=3"])]
    names = {find_job_name(cfg) for cfg in broken}
    assert len(names | {name()}) == 4
    assert json.dumps(sorted(names))
