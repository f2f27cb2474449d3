"""Every YAML under conf/ is composed, and every target in it is bound to its signature."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from conftest import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from geoguesser.collecting.photos.cut_panoramas import cut_panoramas
from geoguesser.collecting.photos.import_photos import import_photos
from geoguesser.commands import configs
from geoguesser.commands.configs import (
    HEAD_GROUPS,
    build,
    check_keys,
    conf_dir,
    format_override,
    get_signature,
    list_known_keys,
    resolve,
    to_plain,
)
from geoguesser.data.checks.findings import FINDING_KINDS
from geoguesser.errors import ConfigError

CONF = Path(conf_dir())
# What must be given by the user wherever such a choice is made.
NEEDED = {
    "region=country": ["region.code=SVN"],
    "region=custom": ["region.boundary=land.geojson"],
    "data=places": ["data.roots=[a,b]"],
    "data=store": ["data.path=a"],
    "strategy=fill_gaps": ["strategy.existing=a"],
}
# What parts.py gives to the targets of each node.
GIVEN = {
    "data": {"region", "image", "split", "augment", "seed"},
    "fusion": {"feature_size"},
    "head": {"in_features", "region", "train_coords_deg", *HEAD_GROUPS},
    "trainer": {"logger", "callbacks", "default_root_dir", "enable_checkpointing", "enable_progress_bar"},
    "logger": {"folder", "config", "name", "group", "choices", "overrides"},
    "callbacks": {"dirpath"},
}
ALL_CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if not path.stem.startswith("_")  # included by other choices
)
COLLECTING = ("provider", "strategy")  # groups of collect.yaml alone
CHOICES = [one for one in ALL_CHOICES if one.split("=")[0] not in COLLECTING]


def targets(node: object, key: str) -> list[tuple[str, dict[str, object]]]:
    """All nodes with a target, with their keys."""
    if not isinstance(node, dict):
        return []
    found = [(key, node)] if "_target_" in node else []
    for name, child in node.items():
        found += targets(child, f"{key}.{name}" if key else str(name))
    return found


def test_every_file_is_reached():
    files = {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    reached = {choice.replace("=", "/") + ".yaml" for choice in ALL_CHOICES}
    assert files == reached | {
        "train.yaml",
        "predict.yaml",
        "prepare.yaml",
        "collect.yaml",
        "compare.yaml",
        "dashboard.yaml",
        "evaluate.yaml",
        "report.yaml",
        "serve.yaml",
        "export.yaml",
        "data/_common.yaml",
        "hydra/folders/current.yaml",
        "hydra/job_logging/geoguesser.yaml",
        "hydra/job_logging/terminal.yaml",
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_composes_and_binds(choice: str):
    config = resolve(compose([choice, *NEEDED.get(choice, [])]))
    bound = targets(config, "")
    assert bound
    for key, node in bound:
        top = key.split(".")[0]
        parameters = get_signature(node, key).parameters
        given = dict.fromkeys(GIVEN.get(top, set()) & set(parameters))
        check_keys(node, key, given)


def test_predict_composes():
    config = OmegaConf.to_container(compose(["run=r", "images=i"], "predict"))
    assert config["batch_size"] == 32


def test_compare_composes():
    config = to_plain(compose(["runs=[a,b]"], "compare"), list_known_keys("compare"))
    assert config["runs"] == ["a", "b"]
    assert config["bootstrap"] == {"samples": 5000, "seed": 0, "block_km": None}


def test_report_composes():
    config = to_plain(compose(["run=r"], "report"), list_known_keys("report"))
    assert set(config) == {
        *("run", "out", "max_places", "places", "examples", "thumbnails", "neighbours", "wandb", "device"),
        "extensions",
    }
    assert (config["out"], config["wandb"]) == (None, "auto")


def test_dashboard_composes_and_names_the_project_that_runs_go_to():
    config = to_plain(compose(["of=a"], "dashboard"), list_known_keys("dashboard"))
    assert set(config) == {"of", "project", "entity", "title", "patience_s"}
    assert config["project"] == resolve(compose([]))["logger"]["project"]


def test_export_composes():
    config = to_plain(compose(["run=r", "out=o"], "export"), list_known_keys("export"))
    assert config["formats"] == ["portable", "torch", "onnx"]
    assert config["tolerance"] == {"posterior": 1e-4, "km": 0.01}
    assert config["push"] is None
    assert config["push_private"] is True


@pytest.mark.parametrize("choice", [one for one in CHOICES if one.split("=")[0] in ("region", "image", "split")])
def test_prepare_composes_and_binds(choice: str):
    needed = [*NEEDED["data=places"], *NEEDED.get(choice, [])]
    config = to_plain(compose([choice, *needed], "prepare"), list_known_keys("prepare"))
    assert set(config) == {
        *("region", "data", "image", "split"),
        *("out", "sizes", "check_only", "report", "pictures", "extensions"),
    }
    bound = targets(config, "")
    assert {key for key, _ in bound} == {"region", "data", "image", "split"}
    for key, node in bound:
        given = dict.fromkeys(GIVEN.get(key, set()) & set(get_signature(node, key).parameters))
        check_keys(node, key, given)


@pytest.mark.parametrize("choice", [one for one in ALL_CHOICES if one.split("=")[0] in ("region", *COLLECTING)])
def test_collect_composes_and_binds(choice: str):
    config = to_plain(compose(["out=a", choice, *NEEDED.get(choice, [])], "collect"), list_known_keys("collect"))
    assert set(config) == {
        *("region", "strategy", "provider"),
        *("step", "out", "places", "seed", "pictures", "photos", "panoramas", "budget", "filters", "http"),
    }
    bound = targets(config, "")
    assert {key for key, _ in bound} == {"region", "strategy", "provider"}
    for key, node in bound:
        check_keys(node, key, {})
        if key != "region":
            build(node, key)


def test_collect_has_safe_defaults_and_its_keys_fit_what_they_are_given_to():
    config = to_plain(compose(["out=a"], "collect"), list_known_keys("collect"))
    assert config["provider"]["accept_terms"] is False
    assert config["budget"]["money"] == 0
    for name, target in (("photos", import_photos), ("panoramas", cut_panoramas)):
        parameters = inspect.signature(target).parameters
        given = {key: value for key, value in config[name].items() if key != "folder"}
        assert given.keys() == parameters.keys() - {"folder", "out"}
        for key, value in given.items():
            default = parameters[key].default
            assert value == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("choice", [one for one in CHOICES if one.startswith("split=")])
def test_a_split_says_how_to_ask_for_it(choice: str):
    words = str(build(resolve(compose([choice]))["split"], "split")).replace(", ", ",").split()
    assert words[0] == choice
    again = build(resolve(compose(words))["split"], "split")
    assert str(again).replace(", ", ",").split() == words


def test_every_kind_of_finding_stands_in_the_config_with_its_default():
    config = resolve(compose(["data=places", *NEEDED["data=places"]]))
    assert config["data"]["on_bad"] == {name: kind.default for name, kind in FINDING_KINDS.items()}


def test_a_store_brings_its_split_and_yields_to_the_user():
    stored = resolve(compose(["data=store", "data.path=a"]))
    assert stored["split"]["_target_"].endswith("StoredSplit")
    assert "memory_gib" not in stored["data"]
    chosen = resolve(compose(["data=store", "data.path=a", "split=kfold", "split.fold=2"]))
    assert chosen["split"]["fold"] == 2


def test_defaults_are_those_of_the_design():
    config = resolve(compose([]))
    assert config["data"]["places"] == 1000
    assert config["region"] == {"_target_": "geoguesser.geo.region.country", "code": "HRV", "crs": "EPSG:3765"}
    assert config["split"]["shares"] == [0.8, 0.1, 0.1]
    assert (config["image"]["size"], config["image"]["fit"]) == (112, "crop")
    assert config["backbone"]["name"].startswith("tf_efficientnet_lite0")
    assert (config["grid"]["size"], config["grid"]["point"]) == (None, "weighted")  # 60 for a country
    assert (config["optimizer"]["lr"], config["optimizer"]["backbone_lr"]) == (1.5e-3, 2e-5)
    assert (config["schedule"]["_target_"].split(".")[-1], config["schedule"]["final"]) == ("Cosine", 0.0)
    assert (config["data"]["batch_size"], config["trainer"]["max_epochs"]) == (32, 20)
    assert config["callbacks"]["early_stopping"]["patience"] == 10
    assert config["logger"]["mode"] == "offline"
    assert config["seed"] == 0
    assert [config[name]["_target_"].split(".")[-1] for name in ("fusion", "loss", "decoder")] == [
        "MeanFusion",
        "SmoothedCrossEntropy",
        "MedianDecoder",
    ]


def test_a_head_drops_the_groups_that_it_does_not_use():
    assert set(HEAD_GROUPS) <= set(resolve(compose([])))
    assert not set(HEAD_GROUPS) & set(resolve(compose(["head=regression", "grid.size=30"])))


@pytest.mark.parametrize("override", ["density=coarse", "grid.size=30"])
def test_density_and_size_are_one_key(override: str):
    assert resolve(compose([override]))["grid"]["size"] == 30
    assert resolve(compose(["density=dense", "grid.size=7"]))["grid"]["size"] == 7


@pytest.mark.parametrize("choice", ["grid=quadtree", "grid=pyramid"])
def test_a_grid_without_a_number_of_cells_takes_no_density(choice: str):
    for words in ([choice], [choice, "density=dense"], [choice, "experiment=quick"]):
        config = resolve(compose(words))["grid"]
        assert config["size"] is None
        build(config, "grid").check()
    for words in ([choice, "grid.size=60"], [choice, "experiment=competition"]):
        with pytest.raises(
            ConfigError, match=r"^grid\.size must be null for this grid, whose number of cells fol"
        ):
            build(resolve(compose(words))["grid"], "grid").check()


@pytest.mark.parametrize("choice", ["grid=kmeans", "grid=staggered"])
def test_a_grid_with_a_number_of_cells_takes_a_density(choice: str):
    assert resolve(compose([choice]))["grid"]["size"] is None
    assert resolve(compose([choice, "density=medium"]))["grid"]["size"] == 60
    assert resolve(compose([choice, "density=coarse"]))["grid"]["size"] == 30
    assert resolve(compose(["grid.size=7", choice]))["grid"]["size"] == 7


@pytest.mark.parametrize("choice", ["staged", "full"])
def test_a_backbone_that_learns_brings_a_plateau_and_more_epochs_and_yields_to_the_user(choice: str):
    def asked(*words: str) -> tuple[str, float]:
        config = resolve(compose([f"finetune={choice}", *words]))
        assert "epochs" not in config
        return config["schedule"]["_target_"].split(".")[-1], config["trainer"]["max_epochs"]

    assert asked() == ("Plateau", 50)
    assert resolve(compose([f"finetune={choice}"]))["schedule"]["factor"] == 0.66
    assert asked("schedule=cosine", "epochs=7") == ("Cosine", 7)
    assert asked("epochs=7", "trainer.max_epochs=9") == ("Plateau", 9)
    assert asked("trainer=debug") == ("Plateau", 2)


def test_staged_brings_light_augmentation_and_yields_to_the_user():
    assert resolve(compose(["finetune=staged"]))["augment"]["brightness"] > 0
    assert "brightness" not in resolve(compose(["finetune=staged", "augment=none"]))["augment"]


def test_unknown_top_level_key_is_refused_with_plus():
    with pytest.raises(ConfigError, match=r"typo is no key of this program\. Its keys: .*seed"):
        resolve(compose(["+typo=1"]))


def test_old_names_in_a_users_yaml_are_taken_with_a_warning(caplog):
    configs._warn_renamed.cache_clear()
    cfg = compose(["+uncertainty.calibration=0.5", "+uncertainty.fewest=3"])
    for _ in range(2):
        config = resolve(cfg)
        assert config["calibration"] == {"fraction": 0.5, "min_places": 3}
        assert "uncertainty" not in config
    assert caplog.text.count("uncertainty.fewest is now calibration.min_places") == 1
    with pytest.raises(ConfigError, match=r"^uncertainty is no key of this program"):
        resolve(compose(["+uncertainty.few=3"]))


def test_missing_value_names_its_key():
    with pytest.raises(
        ConfigError, match=r"region\.code must be given .* Add region\.code=\.\.\. to the command\."
    ):
        resolve(compose(["region=country"]))


def test_known_keys_are_those_of_the_composed_config():
    composed = set(OmegaConf.to_container(compose([])))
    assert composed == list_known_keys()


def test_build_names_unknown_and_missing_keys():
    node = {"_target_": "geoguesser.geo.grid.SquareGrid", "size": 5}
    assert build(node, "grid").size == 5
    with pytest.raises(
        ConfigError, match=r"grid\.sise is no key of this choice\. Its keys: point, size, spacing_km\."
    ):
        build({**node, "sise": 60}, "grid")
    with pytest.raises(ConfigError, match=r"data\.roots must be given"):
        check_keys(
            {"_target_": "geoguesser.data.sources.places.PlacesDataModule"}, "data", dict.fromkeys(GIVEN["data"])
        )
    rule = r"data\.num_workers is no key of this choice\. Its keys: batch_size, far_km, fraction, on_bad, path\."
    node = {"_target_": "geoguesser.data.sources.store.StoreDataModule", "path": "d", "num_workers": 2}
    with pytest.raises(ConfigError, match=rule):
        check_keys(node, "data", dict.fromkeys(GIVEN["data"]))
    with pytest.raises(
        ConfigError, match=r"grid must be a config group's choice with a _target_, got {'size': 1}"
    ):
        build({"size": 1}, "grid")
    with pytest.raises(ConfigError, match=r"grid\._target_ cannot be imported"):
        build({"_target_": "geoguesser.nothing.Here"}, "grid")


def test_values_are_checked_where_they_are_used():
    with pytest.raises(ConfigError, match=r"^image\.size must be an integer from 16 to 4096, got 'abc'\.$"):
        build({"_target_": "geoguesser.data.images.ImageSpec", "size": "abc", "fit": "crop"}, "image")


def test_lists_arrive_as_plain_lists():
    split = build({"_target_": "geoguesser.data.splits.RandomSplit", "shares": [0.5, 0.25, 0.25]}, "split")
    assert type(split.shares) is list


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_hydra_reads_a_shown_word_back_as_it_was(path: str) -> None:
    told = OverridesParser.create().parse_override(format_override("data.path", f"/{path}"))
    assert (told.key_or_group, told.value()) == ("data.path", f"/{path}")
