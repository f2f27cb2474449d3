"""Config files: each YAML under conf/ composes, and each target accepts its keys."""

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
    check_keys,
    conf_dir,
    format_override,
    get_signature,
    instantiate_node,
    list_known_keys,
    resolve_run_config,
    to_plain,
)
from geoguesser.data.checks.findings import FINDING_KINDS
from geoguesser.errors import ConfigError
from geoguesser.sweeps.job_name import make_job_name

CONF = Path(conf_dir())
# Choice -> overrides that it requires from the user.
NEEDED = {
    "region=country": ["region.code=SVN"],
    "region=custom": ["region.boundary=land.geojson"],
    "data=places": ["data.roots=[a,b]"],
    "data=store": ["data.path=a"],
    "strategy=fill_gaps": ["strategy.existing=a"],
}
# Node -> arguments that do not come from the config; see commands/run_parts.py.
GIVEN = {
    "data": {"region", "image", "split", "augment", "seed"},
    "fusion": {"feature_size"},
    "head": {"in_features", "region", "train_coords_deg", *HEAD_GROUPS},
    "trainer": {"logger", "callbacks", "default_root_dir", "enable_checkpointing", "enable_progress_bar"},
    "logger": {"folder", "config", "name", "group", "choices", "overrides"},
    "callbacks": {"dirpath"},
}
ALL_CHOICES = sorted(
    f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if not path.stem.startswith("_")
)
# Groups of collect.yaml only.
COLLECTING = ("provider", "strategy")
CHOICES = [choice for choice in ALL_CHOICES if choice.split("=")[0] not in COLLECTING]


def list_targets(node: object, key: str) -> list[tuple[str, dict[str, object]]]:
    """Lists all nodes with a target, with their keys."""
    if not isinstance(node, dict):
        return []
    nodes = [(key, node)] if "_target_" in node else []
    for name, child in node.items():
        nodes += list_targets(child, f"{key}.{name}" if key else str(name))
    return nodes


def test_every_file_is_reached():
    files = {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    reached = {choice.replace("=", "/") + ".yaml" for choice in ALL_CHOICES}
    commands = ("train", "predict", "evaluate", "compare", "report", "serve", "export")
    commands += ("prepare", "collect", "dashboard")
    assert files == reached | {
        *(f"{command}.yaml" for command in commands),
        "data/_common.yaml",
        "hydra/folders/current.yaml",
        "hydra/job_logging/geoguesser.yaml",
        "hydra/job_logging/terminal.yaml",
    }


def test_an_export_is_complete_and_not_pushed_by_default():
    config = to_plain(compose(["run=r", "out=o"], "export"), list_known_keys("export"))
    assert config["formats"] == ["portable", "torch", "onnx"]
    assert (config["push"], config["push_private"]) == (None, True)


def test_runs_and_dashboards_go_to_one_project():
    assert compose(["sweep_dir=a"], "dashboard").project == resolve_run_config(compose([]))["logger"]["project"]


BOUND = {
    "train": CHOICES,
    "prepare": [choice for choice in CHOICES if choice.split("=")[0] in ("region", "image", "split")],
    "collect": [choice for choice in ALL_CHOICES if choice.split("=")[0] in ("region", *COLLECTING)],
}
REQUIRED = {"train": [], "prepare": NEEDED["data=places"], "collect": ["out=a"]}
NODES = {"prepare": {"region", "data", "image", "split"}, "collect": {"region", "strategy", "provider"}}


@pytest.mark.parametrize(
    ("command", "choice"), [(command, choice) for command, choices in BOUND.items() for choice in choices]
)
def test_choices_compose_and_bind(command: str, choice: str):
    composed = compose([choice, *REQUIRED[command], *NEEDED.get(choice, [])], command)
    train = command == "train"
    config = resolve_run_config(composed) if train else to_plain(composed, list_known_keys(command))
    nodes = list_targets(config, "")
    assert nodes if train else {key for key, _ in nodes} == NODES[command]
    for key, node in nodes:
        given = GIVEN.get(key.split(".")[0], set()) & set(get_signature(node, key).parameters)
        check_keys(node, key, dict.fromkeys(given))
        if key in COLLECTING:
            instantiate_node(node, key)


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


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice.startswith("split=")])
def test_the_text_of_a_split_is_the_override_that_selects_it(choice: str):
    words = (
        str(instantiate_node(resolve_run_config(compose([choice]))["split"], "split")).replace(", ", ",").split()
    )
    assert words[0] == choice
    rebuilt = instantiate_node(resolve_run_config(compose(words))["split"], "split")
    assert str(rebuilt).replace(", ", ",").split() == words


def test_the_config_has_each_kind_of_finding_with_its_default():
    config = resolve_run_config(compose(["data=places", *NEEDED["data=places"]]))
    assert config["data"]["on_bad"] == {name: kind.default for name, kind in FINDING_KINDS.items()}


def test_a_store_brings_its_split_and_yields_to_the_user():
    stored = resolve_run_config(compose(["data=store", "data.path=a"]))
    assert stored["split"]["_target_"].endswith("StoredSplit")
    assert "memory_gib" not in stored["data"]
    chosen = resolve_run_config(compose(["data=store", "data.path=a", "split=kfold", "split.fold=2"]))
    assert chosen["split"]["fold"] == 2


def test_defaults_are_those_of_the_design():
    config = resolve_run_config(compose([]))
    defaults = {
        "data.places": 1000,
        "data.batch_size": 32,
        "split.shares": [0.8, 0.1, 0.1],
        "image.size": 112,
        "image.fit": "crop",
        "grid.size": None,
        "grid.point": "weighted",
        "optimizer.lr": 1.5e-3,
        "optimizer.backbone_lr": 2e-5,
        "schedule.final_factor": 0.0,
        "trainer.max_epochs": 20,
        "callbacks.early_stopping.patience": 10,
        "logger.mode": "offline",
        "callbacks.ema": None,
        "seed": 0,
    }
    assert {key: OmegaConf.select(OmegaConf.create(config), key) for key in defaults} == defaults
    assert config["region"] == {"_target_": "geoguesser.geo.region.country", "code": "HRV", "crs": "EPSG:3765"}
    assert config["backbone"]["name"].startswith("tf_efficientnet_lite0")
    classes = [config[name]["_target_"].split(".")[-1] for name in ("schedule", "fusion", "loss", "decoder")]
    assert classes == ["Cosine", "MeanFusion", "SmoothedCrossEntropy", "MedianDecoder"]


def test_a_head_drops_the_groups_that_it_does_not_use():
    assert set(HEAD_GROUPS) <= set(resolve_run_config(compose([])))
    assert not set(HEAD_GROUPS) & set(resolve_run_config(compose(["head=regression", "grid.size=30"])))


@pytest.mark.parametrize("choice", ["grid=quadtree", "grid=pyramid"])
def test_a_grid_without_a_number_of_cells_takes_no_density(choice: str):
    for words in ([choice], [choice, "density=dense"], [choice, "experiment=quick"]):
        config = resolve_run_config(compose(words))["grid"]
        assert config["size"] is None
        instantiate_node(config, "grid").check()
    for words in ([choice, "grid.size=60"], [choice, "experiment=competition"]):
        with pytest.raises(
            ConfigError, match=r"^grid\.size must be null for this grid, whose number of cells fol"
        ):
            instantiate_node(resolve_run_config(compose(words))["grid"], "grid").check()


@pytest.mark.parametrize("choice", ["grid=square", "grid=kmeans", "grid=staggered"])
def test_a_grid_with_a_number_of_cells_takes_a_density(choice: str):
    assert resolve_run_config(compose([choice]))["grid"]["size"] is None
    assert resolve_run_config(compose([choice, "density=medium"]))["grid"]["size"] == 60
    assert resolve_run_config(compose([choice, "density=coarse"]))["grid"]["size"] == 30
    assert resolve_run_config(compose(["density=dense", "grid.size=7", choice]))["grid"]["size"] == 7


@pytest.mark.parametrize("choice", ["staged", "full"])
def test_a_backbone_that_learns_brings_a_plateau_and_more_epochs_and_yields_to_the_user(choice: str):
    def summarise(*words: str) -> tuple[str, float]:
        config = resolve_run_config(compose([f"finetune={choice}", *words]))
        assert "epochs" not in config
        return config["schedule"]["_target_"].split(".")[-1], config["trainer"]["max_epochs"]

    assert summarise() == ("Plateau", 50)
    assert resolve_run_config(compose([f"finetune={choice}"]))["schedule"]["factor"] == 0.66
    assert summarise("schedule=cosine", "epochs=7") == ("Cosine", 7)
    assert summarise("epochs=7", "trainer.max_epochs=9") == ("Plateau", 9)
    assert summarise("trainer=debug") == ("Plateau", 2)


def test_staged_brings_light_augmentation_and_yields_to_the_user():
    assert resolve_run_config(compose(["finetune=staged"]))["augment"]["brightness"] > 0
    assert "brightness" not in resolve_run_config(compose(["finetune=staged", "augment=none"]))["augment"]


def test_unknown_top_level_key_is_refused_with_plus():
    with pytest.raises(ConfigError, match=r"typo is not a key of this command\. Its keys: .*seed"):
        resolve_run_config(compose(["+typo=1"]))


def test_old_names_in_a_users_yaml_are_taken_with_a_warning(caplog):
    configs._warn_renamed.cache_clear()
    cfg = compose(["+uncertainty.calibration=0.5", "+uncertainty.fewest=3"])
    for _ in range(2):
        config = resolve_run_config(cfg)
        assert config["calibration"] == {"fraction": 0.5, "min_places": 3}
        assert "uncertainty" not in config
    assert caplog.text.count("uncertainty.fewest is now calibration.min_places") == 1
    with pytest.raises(ConfigError, match=r"^uncertainty is not a key of this command"):
        resolve_run_config(compose(["+uncertainty.few=3"]))


def test_missing_value_names_its_key():
    with pytest.raises(
        ConfigError, match=r"region\.code must be given .* Add region\.code=\.\.\. to the command\."
    ):
        resolve_run_config(compose(["region=country"]))


def test_known_keys_are_those_of_the_composed_config():
    composed = set(OmegaConf.to_container(compose([])))
    assert composed == list_known_keys()


def test_build_names_unknown_and_missing_keys():
    node = {"_target_": "geoguesser.geo.grid.SquareGrid", "size": 5}
    assert instantiate_node(node, "grid").size == 5
    with pytest.raises(
        ConfigError, match=r"grid\.sise is not a key of geoguesser\.\S+\. Its keys: point, size, spacing_km\."
    ):
        instantiate_node({**node, "sise": 60}, "grid")
    with pytest.raises(ConfigError, match=r"data\.roots must be given"):
        check_keys(
            {"_target_": "geoguesser.data.sources.places.PlacesDataModule"}, "data", dict.fromkeys(GIVEN["data"])
        )
    with pytest.raises(ConfigError, match=r"grid must be a mapping with the key _target_, got {'size': 1}"):
        instantiate_node({"size": 1}, "grid")
    with pytest.raises(ConfigError, match=r"grid\._target_ cannot be imported"):
        instantiate_node({"_target_": "geoguesser.nothing.Here"}, "grid")


def test_lists_arrive_as_plain_lists():
    split = instantiate_node(
        {"_target_": "geoguesser.data.splits.RandomSplit", "shares": [0.5, 0.25, 0.25]}, "split"
    )
    assert type(split.shares) is list


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_hydra_parses_a_formatted_override_as_it_was(path: str) -> None:
    override = OverridesParser.create().parse_override(format_override("data.path", f"/{path}"))
    assert (override.key_or_group, override.value()) == ("data.path", f"/{path}")


SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))


def read_sweep_params(name: str) -> dict[str, str]:
    node = OmegaConf.load(CONF / "sweep" / f"{name}.yaml")
    assert node.hydra.mode == "MULTIRUN"
    return {str(key): str(value) for key, value in node.hydra.sweeper.params.items()}


@pytest.mark.parametrize("name", [name for name in SWEEPS if name != "optuna"])
def test_each_value_of_a_sweep_gives_a_different_job(name: str):
    given = read_sweep_params(name)
    (varied,) = (key for key, value in given.items() if "," in value)
    fixed = [f"{key}={value}" for key, value in given.items() if key != varied]
    values = given[varied].split(",")
    jobs = [resolve_run_config(compose([f"sweep={name}", *fixed, f"{varied}={value}"])) for value in values]
    assert len({make_job_name(job) for job in jobs}) == len(values) >= 3
    assert all("sweep" not in job for job in jobs)


def test_the_search_space_composes():
    given = read_sweep_params("optuna")
    words = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in given.items()])
    assert [word.key_or_group for word in words] == ["optimizer.lr", "loss.tau", "grid.size", "fusion"]
    assert all(word.is_sweep_override() for word in words)
    for fusion in words[-1].value().list:
        compose(["sweep=optuna", f"fusion={fusion}", "optimizer.lr=1e-3", "loss.tau=0.2", "grid.size=20"])
