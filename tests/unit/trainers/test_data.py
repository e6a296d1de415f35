"""Data sets as a training sees them: packed once, shared by all, normalised and augmented."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raylottery.errors import UsageError
from raylottery.spec import DATASETS, ClassifierTrainer, Extent
from raylottery.trainers.classifier import data, packed


def trainer(**changes) -> ClassifierTrainer:
    fields = {"dataset": "cifar-like", "model": "mlp-8", "batch_size": 10, "lr": 1.0} | changes
    return ClassifierTrainer.model_validate(
        {"kind": "classifier", "length": Extent.parse("1ep"), **fields}
    )


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    """A data folder with nothing in it."""
    folder = tmp_path / "data"
    monkeypatch.setenv("RAYLOTTERY_DATA", str(folder))
    return folder


SMALL = {"examples": 100}


# Where data are kept


def test_data_lie_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAYLOTTERY_DATA", "~/mine")
    assert packed.folder() == tmp_path / "mine"
    monkeypatch.delenv("RAYLOTTERY_DATA")
    assert packed.folder() == tmp_path / ".cache" / "raylottery"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RAYLOTTERY_DATA")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match=r"this user has no home\. Set RAYLOTTERY_DATA"):
        packed.folder()


def test_a_folder_that_cannot_be_written_is_named_with_the_mend(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RAYLOTTERY_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(UsageError, match=r"file/data cannot take a data set: .*RAYLOTTERY_DATA"):
        data.load(trainer(), "cpu")


@pytest.mark.parametrize("asked", ["is_file", "read_bytes"])
def test_a_folder_that_may_not_be_read_is_named_with_the_mend(own_folder, monkeypatch, asked):
    spec = trainer(**SMALL)
    data.provide(spec.dataset, spec.size)

    def forbidden(path):  # to root, which tests may run as, nothing is
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, asked, forbidden)
    at = packed.place(spec.dataset, spec.size)
    mend = "Give yourself access to it, or set RAYLOTTERY_DATA to another folder"
    with pytest.raises(UsageError, match=f"^{at} cannot be read: Permission denied. {mend}"):
        packed.refuse_missing(spec.dataset, spec.size)


def test_an_interrupted_packing_leaves_nothing(own_folder, monkeypatch):
    def interrupted(path, array):
        if path.name == "test-x.npy":
            raise KeyboardInterrupt
        return saved(path, array)

    saved = packed.saved
    monkeypatch.setattr(packed, "saved", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load(trainer(**SMALL), "cpu")
    assert [path.name for path in own_folder.iterdir()] == [".cifar-like-100-100-v1.1.lock"]
    monkeypatch.undo()


# What is shared


def test_data_are_generated_by_one_and_mapped_by_all(own_folder, monkeypatch):
    """Two that start at once do not both generate; what they hold is one file."""
    calls = []
    ready = threading.Barrier(2)

    def generate(size):
        calls.append(size)
        return cifar_like(size)

    cifar_like = data.cifar_like
    monkeypatch.setitem(data.GENERATORS, "cifar-like", generate)
    spec = trainer(**SMALL)
    at = packed.place("cifar-like", spec.size)
    found = []

    def worker():
        ready.wait()
        data.provide("cifar-like", spec.size)
        found.append(data.load(spec, "cpu"))

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 2
    if sys.platform == "linux":
        assert str(at / "train-x.npy") in Path("/proc/self/maps").read_text()


def test_a_data_set_is_loaded_once_for_all_trainings_of_a_process():
    first = data.load(trainer(**SMALL), "cpu")
    assert data.load(trainer(**SMALL, lr=2.0, model="mlp-4"), "cpu") is first
    assert data.load(trainer(examples=110), "cpu") is not first


def test_what_was_generated_once_is_never_imported_again(data_folder):
    """The generator stands on packages that take seconds to import."""
    data.load(trainer(dataset="mnist1d"), "cpu")
    code = (
        "import sys\n"
        "from raylottery.spec import DATASETS\n"
        "from raylottery.spec.nuisance import Nuisance\n"
        "from raylottery.trainers.classifier import data, packed\n"
        "size, at = DATASETS['mnist1d'], packed.place('mnist1d', DATASETS['mnist1d'])\n"
        "found = data.on_device('mnist1d', size, at, Nuisance(), 'cpu')\n"
        "print(len(found.train), *{'mnist1d', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["3500"]


def test_generating_mnist1d_leaves_the_global_random_streams_alone():
    import random

    np.random.seed(3)
    random.seed(3)
    expected = np.random.random(), random.random()
    np.random.seed(3)
    random.seed(3)
    data.mnist1d(DATASETS["mnist1d"])
    assert (np.random.random(), random.random()) == expected


def test_mnist1d_is_split_as_it_always_was():
    whole = data.mnist1d(DATASETS["mnist1d"])
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    found = data.load(trainer(dataset="mnist1d"), "cpu")
    x, y = torch.from_numpy(whole.x), torch.from_numpy(whole.y)
    assert torch.equal(found.train.x, x[order[:3500]])
    assert torch.equal(found.train.y, y[order[:3500]])
    assert torch.equal(found.valid.x, x[order[3500:]])
    assert torch.equal(found.valid.y, y[order[3500:]])
    assert torch.equal(found.test.y, torch.from_numpy(whole.y_test))
    assert (found.train.x.dtype, found.train.y.dtype) == (torch.float32, torch.int64)


def test_images_are_bytes_of_the_size_that_the_study_says():
    found = data.load(trainer(examples=120), "cpu")
    assert [tuple(s.x.shape) for s in (found.train, found.valid, found.test)] == [
        (108, 3, 32, 32), (12, 3, 32, 32), (120, 3, 32, 32),
    ]  # fmt: skip
    assert (found.train.x.dtype, found.train.y.dtype) == (torch.uint8, torch.int64)


def test_few_generated_images_are_tested_on_the_first_of_those_that_many_are():
    few, some, many = (
        data.load(trainer(examples=count), "cpu").test for count in (100, 1000, 1100)
    )
    assert [len(split) for split in (few, some, many)] == [100, 1000, 1000]
    for split in (few, some):
        assert torch.equal(split.x, many.x[: len(split)])
        assert torch.equal(split.y, many.y[: len(split)])


@pytest.mark.parametrize(
    ("file", "keep"),
    [("train-x.npy", 5000), ("test-y.npy", 0), ("valid-y.npy", None), ("manifest.json", 20)],
)
def test_a_partial_file_is_refused_with_its_folder_and_the_mend(own_folder, file, keep):
    spec = trainer(**SMALL)
    data.load(spec, "cpu")
    data.on_device.cache_clear()
    at = packed.place("cifar-like", spec.size)
    if keep is None:
        (at / file).unlink()
    else:
        (at / file).write_bytes((at / file).read_bytes()[:keep])
    with pytest.raises(UsageError) as refused:
        data.load(spec, "cpu")
    assert str(refused.value).startswith(f"trainer.dataset: cifar-like is damaged in {at}: ")
    assert str(refused.value).endswith(". Remove that folder, and it is made anew.")


def test_a_byte_that_changed_is_found_by_who_reads_them_all(own_folder):
    spec = trainer(**SMALL)
    data.load(spec, "cpu")
    packed.verify("cifar-like", spec.size)
    file = packed.place("cifar-like", spec.size) / "train-x.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"train-x\.npy has the sha256 [0-9a-f]{64}, written was"):
        packed.verify("cifar-like", spec.size)


# Normalising


def test_the_moments_are_those_of_the_training_images():
    found = data.load(trainer(**SMALL), "cpu")
    scaled = found.train.x.double() / 255
    for channel in range(3):
        assert found.mean[channel].item() == pytest.approx(scaled[:, channel].mean().item())
        spread = scaled[:, channel].std(correction=0).item()
        assert found.std[channel].item() == pytest.approx(spread)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("normalise", ["dataset", "unit", "none"])
def test_a_batch_is_normalised_pixel_by_pixel(normalise, channels_last):
    spec = trainer(**SMALL, normalise=normalise, channels_last=channels_last)
    dataset = data.load(spec, "cpu")
    batch = dataset.test.x[:4]
    before = batch.clone()
    found = data.prepared(batch, spec, dataset)
    mean, std = dataset.mean.tolist(), dataset.std.tolist()
    for example in range(4):
        for channel in range(3):
            for row, column in ((0, 0), (7, 31), (31, 16)):
                pixel = batch[example, channel, row, column].item()
                expected = {
                    "dataset": (pixel / 255 - mean[channel]) / std[channel],
                    "unit": pixel / 255,
                    "none": pixel,
                }[normalise]
                assert found[example, channel, row, column].item() == pytest.approx(
                    expected, abs=1e-5
                )
    assert found.dtype == torch.float32
    assert found.is_contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    assert torch.equal(batch, before), "the data set itself is left as it is"


def test_what_is_no_image_stays_as_published():
    spec = trainer(dataset="mnist1d")
    dataset = data.load(spec, "cpu")
    assert data.prepared(dataset.test.x, spec, dataset) is dataset.test.x


# Augmenting


def slowly_augmented(batch, kind, seed):
    """One image after the other, with padding, slicing and flipping."""
    count, _, height, width = batch.shape
    generator = torch.Generator().manual_seed(seed)
    ends = [2, 9, 9, height, width] if kind == "flip-crop-cutout" else [2, 9, 9]
    draws = [torch.randint(end, (count, 1), generator=generator).flatten() for end in ends]
    images = []
    for i, image in enumerate(batch.numpy()):
        flip, down, right = (int(draw[i]) for draw in draws[:3])
        framed = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        image = framed[:, down : down + height, right : right + width]
        image = image[:, :, ::-1].copy() if flip else image.copy()
        if kind == "flip-crop-cutout":
            y, x = (int(draw[i]) for draw in draws[3:])
            top, left = y - height // 4, x - width // 4
            rows = slice(max(0, top), max(0, top + height // 2))
            columns = slice(max(0, left), max(0, left + width // 2))
            image[:, rows, columns] = 0
        images.append(torch.from_numpy(image))
    return torch.stack(images)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 6, 9)])
@pytest.mark.parametrize("kind", ["flip-crop", "flip-crop-cutout"])
def test_a_batch_is_augmented_as_its_images_would_be_one_by_one(kind, shape):
    spec = trainer(augment=kind)
    batch = torch.randint(1, 256, (200, *shape), dtype=torch.uint8)
    before = batch.clone()
    found = data.augmented(batch, spec, torch.Generator().manual_seed(5))
    assert torch.equal(found, slowly_augmented(batch, kind, 5))
    assert torch.equal(batch, before)


def test_every_shift_and_both_ways_round_occur_about_as_often():
    marked = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    marked[0, 0, 8, 6] = 1  # off the middle, so that a mirror shows
    batch = marked.expand(16200, 1, 16, 16)
    found = data.augmented(batch, trainer(augment="flip-crop"), torch.Generator().manual_seed(0))
    places = found.flatten(1).argmax(dim=1)
    rows, columns = places // 16, places % 16
    assert rows.bincount()[4:].min() > 1800 * 0.85
    assert (rows.min(), rows.max()) == (4, 12)
    straight, mirrored = range(2, 11), range(5, 14)
    weights = torch.tensor([(c in straight) + (c in mirrored) for c in range(16)])
    share = columns.bincount(minlength=16) / (900 * weights.clamp(min=1))
    assert share[weights > 0].min() > 0.8
    assert share[weights == 0].max() == 0


def test_a_hole_leaves_mirrors_and_shifts_as_they_are_without():
    batch = torch.randint(1, 256, (100, 3, 32, 32), dtype=torch.uint8)
    kinds = ("flip-crop", "flip-crop-cutout")
    whole, cut = (
        data.augmented(batch, trainer(augment=kind), torch.Generator().manual_seed(1))
        for kind in kinds
    )
    seen = cut > 0
    assert torch.equal(whole[seen], cut[seen])
    assert 64 <= (whole != cut).any(dim=1).sum(dim=(1, 2)).max() <= 256


def test_nothing_asked_is_nothing_drawn():
    batch = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert data.augmented(batch, trainer(), generator) is batch
    assert torch.equal(generator.get_state(), before)


class Operations(TorchDispatchMode):
    """Notes what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_batch_is_made_by_a_few_operations_that_a_device_is_never_waited_for():
    """As many for a thousand images as for two, one of them a gather, none that reads a value."""
    spec = trainer(**SMALL, augment="flip-crop-cutout")
    dataset = data.load(spec, "cpu")
    dataset.moments  # noqa: B018 (computed once a data set)
    counts = []
    for count in (2, 1000):
        generator = torch.Generator().manual_seed(0)
        with Operations() as done:
            x = data.augmented(dataset.test.x[:count], spec, generator)
            data.prepared(x, spec, dataset)
        assert not {"_local_scalar_dense", "nonzero", "masked_select", "equal"} & set(done.names)
        assert done.names.count("gather") == 1
        counts.append(len(done.names))
    assert counts[0] == counts[1]
