"""The datamodule: batches, their order, processes and workers, and what is left out. No Trainer but a stand-in."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.place_roots import make_coords, make_places_data, make_view, write_csv, write_root, write_views
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.augment import Augment
from geoguesser.data.batches import Batch, FeatureBatch, PlaceBatches, PlaceSampler
from geoguesser.data.images import ImageSpec
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.splits import ColumnSplit, FolderSplit, RandomSplit
from geoguesser.data.views import FileViews, MemoryViews
from geoguesser.errors import ConfigError, DataError
from geoguesser.model.fusion import ConcatFusion, MeanFusion

PX = 16
SPEC = ImageSpec(size=PX)
IDS = [f"place {at}" for at in range(40)]
SIDES = RandomSplit(shares=[0.6, 0.2, 0.2]).assign(pd.DataFrame({"uuid": IDS}))
SPLIT_NAMES = ("train", "val", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 places; nobody changes them."""
    return write_root(tmp_path_factory.mktemp("places"), IDS, px=PX)


def make_data(root: Path | list[Path], **options: Any) -> PlacesDataModule:
    return make_places_data(root, **{"image": SPEC, "batch_size": 4, "num_workers": 0, **options})


def read_data(root: Path, **options: Any) -> PlacesDataModule:
    data = make_data(root, **options)
    data.read_views()
    return data


@pytest.fixture
def ready(root: Path) -> PlacesDataModule:
    return read_data(root)


def list_rows(loader: DataLoader[Any], epoch: int | None = None) -> list[int]:
    if epoch is not None:
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr, attr-defined]  # as Lightning does
    return [row for batch in loader for row in batch.index.tolist()]


def trainer(*, rank: int = 0, world_size: int = 1, training: bool = True, step: int = 0) -> Any:
    """What the datamodule asks of a Trainer."""
    epoch_loop = SimpleNamespace(total_batch_idx=step)
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, training=training, fit_loop=SimpleNamespace(epoch_loop=epoch_loop)
    )


# The table and its splits


def test_the_table_is_split_by_id(root: Path) -> None:
    data = make_data(root)
    data.read_table()
    assert data.table["uuid"].tolist() == IDS
    assert data.table["split"].tolist() == SIDES.tolist()
    for name in SPLIT_NAMES:
        assert data.rows[name].tolist() == np.flatnonzero(name == SIDES).tolist()
    np.testing.assert_array_equal(data.coords_deg, make_coords(40))
    assert data.mask.shape == (40, 4)
    assert data.mask.all()
    first = data.table
    data.read_table()
    assert data.table is first


def test_a_fraction_thins_training_alone(root: Path) -> None:
    kept: dict[float, set[int]] = {}
    for seed, fraction in enumerate((0.3, 0.6, 1.0)):
        data = read_data(root, fraction=fraction, seed=seed)  # the seed of the run leaves the splits alone
        for name in ("val", "test"):
            assert data.rows[name].tolist() == np.flatnonzero(name == SIDES).tolist()
        np.testing.assert_array_equal(data.train_coords_deg, make_coords(40)[data.rows["train"]])
        kept[fraction] = set(data.rows["train"].tolist())
        unused = np.flatnonzero(data.table["split"] == "unused").tolist()
        assert sorted([*kept[fraction], *unused]) == np.flatnonzero(SIDES == "train").tolist()
        assert sorted(list_rows(data.train_dataloader())) == sorted(kept[fraction])
    assert kept[0.3] < kept[0.6] < kept[1.0]


# Batches


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_batches_are_what_they_say(memory_gib: float, root: Path) -> None:
    data = read_data(root, memory_gib=memory_gib)
    assert isinstance(data.views, MemoryViews if memory_gib else FileViews)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        sizes = []
        for batch in loader:
            assert isinstance(batch, Batch)
            size = len(batch.index)
            sizes.append(size)
            assert (batch.images.shape, batch.images.dtype) == ((size, 4, 3, PX, PX), torch.uint8)
            assert torch.equal(batch.mask, torch.ones((size, 4), dtype=torch.bool))
            assert (batch.coords_deg.shape, batch.coords_deg.dtype) == ((size, 2), torch.float32)
            assert batch.index.dtype == torch.int64
            for row, coords, images in zip(batch.index.tolist(), batch.coords_deg, batch.images, strict=True):
                np.testing.assert_allclose(coords, make_coords(40)[row], rtol=1e-7)
                for heading, view in zip((0, 90, 180, 270), images, strict=True):
                    drawn = make_view(IDS[row], heading, PX).transpose(2, 0, 1)
                    np.testing.assert_allclose(view.int(), drawn.astype(int), atol=12)
        assert set(sizes[:-1]) <= {4}
        assert len(loader) == len(sizes)


def test_every_place_comes_once_an_epoch(ready: PlacesDataModule) -> None:
    train = ready.train_dataloader()
    for epoch in range(3):
        assert sorted(list_rows(train, epoch)) == ready.rows["train"].tolist()
    for name, loader in (("val", ready.val_dataloader()), ("test", ready.test_dataloader())):
        for _ in range(2):
            assert list_rows(loader) == ready.rows[name].tolist()  # in the table's order
    assert list_rows(ready.loader("all")) == list(range(40))


def test_the_order_of_training_is_drawn_from_seed_and_epoch(root: Path) -> None:
    orders = {}
    for seed in (0, 1):
        for _ in range(2):
            data = read_data(root, seed=seed)
            torch.manual_seed(hash(str(orders)) % 1000)  # the global generator has no say
            loader = data.train_dataloader()
            for epoch in (2, 0, 1):
                order = list_rows(loader, epoch)
                assert orders.setdefault((seed, epoch), order) == order
    assert len({tuple(order) for order in orders.values()}) == 6
    assert all(order != sorted(order) for order in orders.values())


def test_a_single_place_is_a_batch_of_one(ready: PlacesDataModule) -> None:
    dataset = ready.val_dataloader().dataset
    row = ready.rows["val"][2]
    one = dataset[2]
    assert one.index.tolist() == [row]
    assert torch.equal(one.images, ready.views.gather(np.array([row])))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12 says it of any fork
def test_workers_give_the_same_batches(root: Path) -> None:
    runs: list[list[Batch]] = []
    for workers in (0, 2):
        data = read_data(root, memory_gib=0.0, num_workers=workers)
        loader = data.train_dataloader()
        assert loader.num_workers == workers
        batches = []
        for epoch in range(2):
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr, attr-defined]
            batches += list(loader)
        runs.append([*batches, *data.val_dataloader()])
        del loader
    assert len(runs[0]) == len(runs[1])
    for alone, helped in zip(*runs, strict=True):
        assert type(helped) is Batch
        assert all(torch.equal(*pair) for pair in zip(alone, helped, strict=True))


def test_views_in_memory_and_features_take_no_workers(root: Path) -> None:
    data = read_data(root, num_workers=2)
    assert data.train_dataloader().num_workers == 0
    data = read_data(root, num_workers=2, memory_gib=0.0)
    assert data.val_dataloader().num_workers == 2
    data.use_features(torch.zeros(40, 4, 5))
    assert data.val_dataloader().num_workers == 0
    assert data.loader("val", pixels=True).num_workers == 2


def test_features_are_served_by_row_instead_of_pixels(ready: PlacesDataModule) -> None:
    features = torch.randn(40, 4, 7)
    ready.use_features(features)
    seen = []
    for batch in ready.train_dataloader():
        assert isinstance(batch, FeatureBatch)
        assert torch.equal(batch.features, features[batch.index])
        assert torch.equal(batch.coords_deg, torch.from_numpy(ready.coords_deg[batch.index.numpy()]).float())
        assert (batch.mask.shape, batch.mask.dtype) == ((len(batch.index), 4), torch.bool)
        seen += batch.index.tolist()
    assert sorted(seen) == ready.rows["train"].tolist()
    pixels = next(iter(ready.loader("val", pixels=True)))
    assert isinstance(pixels, Batch)
    assert torch.equal(pixels.images, ready.views.gather(ready.rows["val"][:4]))


def test_features_are_evaluated_in_large_batches_and_trained_on_as_asked(ready: PlacesDataModule) -> None:
    ready.use_features(torch.randn(40, 4, 7), 3)
    assert [len(batch.index) for batch in ready.val_dataloader()] == [len(ready.rows["val"])]
    sizes = [len(batch.index) for batch in ready.train_dataloader()]
    assert set(sizes[:-1]) == {3}
    assert sum(sizes) == len(ready.rows["train"])
    ready.use_features(torch.randn(40, 4, 7), 2000)
    assert ready.val_dataloader().batch_sampler.batch_size == 2000
    assert ready.loader("val", pixels=True).batch_sampler.batch_size == ready.batch_size


def test_one_vector_per_place_is_served_where_it_says_the_same(ready: PlacesDataModule) -> None:
    features = torch.randn(40, 4, 7)
    ready.mask[:, 3] = False
    ready.use_features(features)
    ready.condense_features(ConcatFusion(7).condense)  # which needs all four
    assert next(iter(ready.val_dataloader())).features.shape[1:] == (4, 7)
    fusion = MeanFusion(7)
    ready.condense_features(fusion.condense)
    for batch in ready.train_dataloader():
        assert batch.features.shape == (len(batch.index), 1, 7)
        assert batch.mask.shape == (len(batch.index), 1)
        expected = fusion(features[batch.index], ready.mask[batch.index])
        assert torch.equal(fusion(batch.features, batch.mask), expected)
    assert ready.features is features
    ready.use_features(features)  # others: nothing of the old ones stays
    assert next(iter(ready.val_dataloader())).features.shape[1:] == (4, 7)


def test_validation_is_dealt_out_between_choosing_and_calibration(root: Path) -> None:
    whole, data = read_data(root), read_data(root)
    assert len(whole.rows["calibration"]) == 0
    data.hold_out(0.85, 1)
    val, held = data.rows["val"].tolist(), data.rows["calibration"].tolist()
    assert val
    assert held
    assert sorted(val + held) == whole.rows["val"].tolist()
    assert data.fingerprint() == whole.fingerprint()
    assert data.table["split"].tolist() == whole.table["split"].tolist()
    assert list_rows(data.val_dataloader()) == val
    assert list_rows(data.loader("calibration")) == held
    data.hold_out(0.85, 1)
    assert data.rows["calibration"].tolist() == held
    data.hold_out(0.85, 20)
    assert data.rows["val"].tolist() == whole.rows["val"].tolist()
    assert list_rows(data.loader("calibration")) == []


# Several processes


def shares(
    size: int, *, world_size: int, batch_size: int, in_step: bool, seed: int | None = 0, epoch: int = 0
) -> list[list[list[int]]]:
    """The batches of each process."""
    ranks = []
    for rank in range(world_size):
        sampler = PlaceSampler(size, seed=seed, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        assert len(sampler) == len(list(sampler))
        batches = PlaceBatches(sampler, batch_size, in_step=in_step)
        ranks.append(list(batches))
        assert len(batches) == len(ranks[-1])
    return ranks


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 60), world_size=st.integers(1, 9), batch_size=st.integers(1, 12), epoch=st.integers(0, 5)
)
def test_processes_share_the_places(size: int, world_size: int, batch_size: int, epoch: int) -> None:
    ranks = shares(size, world_size=world_size, batch_size=batch_size, in_step=False, seed=None)
    assert sorted(chain(*chain(*ranks))) == list(range(size))  # each counts once
    for rank in ranks:
        assert list(chain(*rank)) == sorted(chain(*rank))
        assert all(len(batch) == batch_size for batch in rank[:-1])
    ranks = shares(size, world_size=world_size, batch_size=batch_size, in_step=True, epoch=epoch)
    assert len({len(rank) for rank in ranks}) == 1  # in step
    assert all(0 < len(batch) <= batch_size for rank in ranks for batch in rank)
    seen = list(chain(*chain(*ranks)))
    [alone] = shares(size, world_size=1, batch_size=size, in_step=True, epoch=epoch)
    first = alone[0][0]
    if size >= world_size and batch_size > 1:
        assert sorted(seen) == list(range(size))  # each exactly once
    else:  # a process with no place left gets the epoch's first, and no other place is repeated
        assert set(seen) == set(range(size))
        assert all(seen.count(place) == 1 for place in range(size) if place != first)
    for rank, batches in enumerate(ranks):  # one order, dealt out in turn
        own = list(chain(*batches))
        dealt = alone[0][rank::world_size]
        assert own in (dealt, [*dealt, first])


def test_the_loaders_ask_the_trainer_for_their_rank(root: Path) -> None:
    orders: dict[str, list[list[int]]] = {name: [] for name in SPLIT_NAMES}
    for rank in range(2):
        data = read_data(root)
        data.trainer = trainer(rank=rank, world_size=2)
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        for name, loader in zip(SPLIT_NAMES, loaders, strict=True):
            orders[name].append(list_rows(loader))
    for name in SPLIT_NAMES:
        assert sorted(chain(*orders[name])) == data.rows[name].tolist()
    assert list_rows(data.loader("test", whole=True)) == data.rows["test"].tolist()
    first, second = orders["train"]
    assert abs(len(first) - len(second)) <= 1
    assert first != sorted(first)


# Augmentation


def augmented(data: PlacesDataModule, batch: Batch, **options: Any) -> Tensor:
    data.trainer = trainer(**options)
    changed = data.on_after_batch_transfer(batch, 0)
    assert all(torch.equal(*pair) for pair in zip(changed[1:], batch[1:], strict=True))
    return changed.images


def test_training_views_are_augmented_by_seed_step_and_process(root: Path) -> None:
    def fresh(seed: int = 0) -> PlacesDataModule:
        return read_data(root, augment=Augment(brightness=0.5, shift=0.1), seed=seed)

    data = fresh()
    batch = next(iter(data.loader("train")))
    first = augmented(data, batch, step=5)
    assert not torch.equal(first, batch.images)
    assert torch.equal(augmented(fresh(), batch, step=5), first)  # a resumed run
    others = [
        augmented(data, batch, step=6),
        augmented(fresh(seed=1), batch, step=5),
        augmented(data, batch, step=5, rank=1, world_size=2),
        augmented(data, batch, step=5, rank=0, world_size=2),
    ]
    assert len({one.numpy().tobytes() for one in [first, *others]}) == 5


def test_nothing_else_is_augmented(root: Path) -> None:
    data = read_data(root, augment=Augment(brightness=0.5))
    batch = next(iter(data.loader("train")))
    assert data.on_after_batch_transfer(batch, 0) is batch  # without a trainer
    assert torch.equal(augmented(data, batch, training=False), batch.images)
    features = FeatureBatch(torch.zeros(4, 4, 5), *batch[1:])
    data.trainer = trainer()
    assert data.on_after_batch_transfer(features, 0) is features


# Broken images


def damage(root: Path, ids: list[str]) -> None:
    for number, one in enumerate(ids):
        (root / "images" / one / f"{90 * (number % 4)}.jpg").write_bytes(b"no image")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    root = write_root(tmp_path / "root", IDS, px=PX)
    damage(root, [IDS[0], IDS[7], IDS[39]])
    return root


def test_broken_images_are_refused_all_at_once(damaged: Path) -> None:
    data = make_data(damaged)
    data.read_table()  # decodes nothing
    with pytest.raises(DataError, match=r"\(3 broken_image\):(\n.*)+data\.on_bad\.broken_image=skip") as caught:
        data.read_views()
    for row, heading in ((0, 0), (7, 90), (39, 180)):
        assert f"{damaged}/images/{IDS[row]}/{heading}.jpg is not a complete image (" in str(caught.value)


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_skipped_images_leave_the_rest(memory_gib: float, fraction: float, damaged: Path, root: Path) -> None:
    options = {"memory_gib": memory_gib, "fraction": fraction}
    whole = read_data(root, **options)
    data = read_data(damaged, on_bad={"broken_image": "skip"}, **options)
    keep = [row for row in range(40) if row not in (0, 7, 39)]
    assert data.findings.count_skipped() == {"broken_image": 3}
    assert data.table["uuid"].tolist() == [IDS[row] for row in keep]
    assert data.table["split"].tolist() == whole.table["split"].iloc[keep].tolist()  # nobody changes sides
    np.testing.assert_array_equal(data.coords_deg, make_coords(40)[keep])
    np.testing.assert_array_equal(data.thumbnails, whole.thumbnails[keep])
    seen = []
    for name in SPLIT_NAMES:
        for batch in data.loader(name):
            there = np.array(keep)[batch.index.numpy()]
            assert torch.equal(batch.images, whole.views.gather(there))
            np.testing.assert_array_equal(batch.coords_deg, make_coords(40)[there].astype(np.float32))
            assert {data.table["split"][row] for row in batch.index.tolist()} == {name}
            seen += batch.index.tolist()
    assert sorted(seen) == np.flatnonzero(data.table["split"] != "unused").tolist()


@pytest.mark.parametrize("column", ["split", "part"])
def test_a_recorded_split_outlives_skipped_images(column: str, tmp_path: Path) -> None:
    words = [SPLIT_NAMES[at % 3] for at in range(9)]
    root = write_root(tmp_path / "root", IDS[:9], px=PX, columns={column: words, "town": list("abcdefghi")})
    damage(root, [IDS[4]])
    data = read_data(root, split=ColumnSplit(column=column), on_bad={"broken_image": "skip"}, fraction=0.9)
    kept = [word for at, word in enumerate(words) if at != 4]
    assert [word if word != "unused" else "train" for word in data.table["split"]] == kept
    assert data.table["town"].tolist() == list("abcdfghi")


def test_folders_as_splits_outlive_skipped_images(tmp_path: Path) -> None:
    words = [SPLIT_NAMES[at % 3] for at in range(9)]
    write_csv(tmp_path / "data.csv", [[IDS[at], 45, 15 + at / 10] for at in range(9)])
    for at, word in enumerate(words):
        write_views(tmp_path / word / "images" / IDS[at], IDS[at], PX)
    (tmp_path / "val/images" / IDS[4] / "0.jpg").write_bytes(b"")
    data = read_data(tmp_path, split=FolderSplit(), on_bad={"broken_image": "skip"})
    assert data.table["split"].tolist() == [word for at, word in enumerate(words) if at != 4]


# Values


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_size", 0, "data.batch_size must be a positive integer"),
        ("fraction", 1.5, "data.fraction must be a number above 0 to 1"),
        ("num_workers", -1, "data.num_workers must be an integer from 0 up"),
        ("memory_gib", None, "data.memory_gib must be a number from 0"),
        ("seed", -1, "seed must be an integer from 0 up"),
    ],
)
def test_values_that_are_none(option: str, value: Any, message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}, got"):
        make_data(root, **{option: value})
