"""Published data sets, fetched from mirrors that the tests write in the publishers' formats."""

from __future__ import annotations

import errno
import gzip
import http.server
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from raylottery.driver.doctor import dataset as examined
from raylottery.errors import DataError, NotFoundError, UsageError
from raylottery.spec import DATASETS, ClassifierTrainer, Extent
from raylottery.trainers.classifier import data, fetch, packed
from tests.published import TEST, TRAIN, VALID, made_up, publish, trust, write_mnist


PUBLISHED = ("cifar10", "cifar100", "mnist", "fashion-mnist")


class Witness:
    """Notes what a fetch says of itself."""

    def __init__(self):
        self.lines: list[str] = []
        self.files: list[tuple[str, int | None]] = []
        self.bytes = 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    def begins(self, file: str, total: int | None) -> None:
        self.files.append((file, total))

    def arrived(self, count: int) -> None:
        self.bytes += count


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A data folder with nothing in it."""
    monkeypatch.setenv("RAYLOTTERY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


@pytest.fixture
def mirror(weird_path) -> Path:
    return weird_path / "mirror"


def fetched(name: str, mirror: Path, watcher: Witness | None = None) -> bool:
    return fetch.fetch(name, mirror.as_uri(), watcher or Witness())


def loaded(name: str) -> data.Dataset:
    spec = ClassifierTrainer(
        kind="classifier", dataset=name, model="mlp-8", length=Extent.parse("1ep"), batch_size=9,
        lr=0.1,
    )  # fmt: skip
    return data.load(spec, "cpu")


def kept(folder: Path) -> list[str]:
    """What lies in the data folder, besides locks, which are empty."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# What arrives


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_loaded_is_what_was_published(mirror, folder, monkeypatch, name):
    whole = publish(name, mirror, monkeypatch)
    witness = Witness()
    assert fetched(name, mirror, witness)
    assert kept(folder) == [f"{name}-50-v1"], "no download is left"
    sizes = [(file, (mirror / file).stat().st_size) for file in fetch.CHECKSUMS[name]]
    assert witness.files == sizes
    assert witness.bytes == sum(size for _, size in sizes)

    found = loaded(name)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(whole.x), torch.from_numpy(whole.y)
    assert torch.equal(found.train.x, x[order[:TRAIN]])
    assert torch.equal(found.train.y, y[order[:TRAIN]])
    assert torch.equal(found.valid.x, x[order[TRAIN:]])
    assert torch.equal(found.valid.y, y[order[TRAIN:]])
    assert torch.equal(found.test.x, torch.from_numpy(whole.x_test))
    assert torch.equal(found.test.y, torch.from_numpy(whole.y_test))
    scaled = found.train.x.double() / 255
    assert torch.allclose(found.mean.double(), scaled.mean(dim=(0, 2, 3)))
    assert torch.allclose(found.std.double(), scaled.std(dim=(0, 2, 3), correction=0))
    assert examined(name, DATASETS[name]) == (
        f"data set {name}", True, f"{TRAIN} training, {VALID} validation, {TEST} test",
    )  # fmt: skip


def test_every_data_set_is_either_generated_or_known_by_its_checksums():
    assert set(fetch.CHECKSUMS) == set(PUBLISHED)
    assert {*fetch.CHECKSUMS, *packed.GENERATED} == set(DATASETS)
    for name in PUBLISHED:
        for checksum in fetch.CHECKSUMS[name].values():
            method, _, digest = checksum.partition(":")
            assert (method, len(digest)) == ("md5", 32)
        for address in fetch.publishers(name):
            assert address.startswith("http")
            assert address.endswith("/")


def test_a_second_fetch_says_it_is_there_and_asks_nobody(mirror, monkeypatch):
    publish("cifar10", mirror, monkeypatch)
    assert fetched("cifar10", mirror)
    shutil.rmtree(mirror)
    assert not fetched("cifar10", mirror)


def test_the_publishers_second_address_is_asked_where_the_first_fails(mirror, monkeypatch):
    publish("mnist", mirror, monkeypatch)
    addresses = [(mirror / "gone").as_uri(), f"{mirror.as_uri()}/"]
    monkeypatch.setattr(fetch.MNISTS["mnist"], "mirrors", addresses)
    assert fetch.fetch("mnist", None, Witness())
    monkeypatch.setattr(fetch.MNISTS["mnist"], "mirrors", addresses[:1] * 2)
    shutil.rmtree(packed.place("mnist", DATASETS["mnist"]))
    with pytest.raises(NotFoundError) as refused:
        fetch.fetch("mnist", None, Witness())
    assert str(refused.value).count("train-images-idx3-ubyte.gz cannot be read") == 2


# Over the network


@pytest.fixture
def served(mirror) -> Iterator[str]:
    """The mirror on the loopback; what is asked of /partial/ breaks off in the middle."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(mirror))

        def do_GET(self):
            if not self.path.startswith("/partial/"):
                super().do_GET()
                return
            content = (mirror / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mirror_may_be_a_web_server(mirror, served, monkeypatch):
    publish("fashion-mnist", mirror, monkeypatch)
    assert fetch.fetch("fashion-mnist", f"{served}/", Witness())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/partial", r"/partial/cifar-10-python.tar.gz (broke off after|cannot be read)"),
        ("/absent", r"/absent/cifar-10-python.tar.gz cannot be read: HTTP Error 404"),
    ],
)
def test_a_mirror_that_fails_is_named(mirror, folder, served, monkeypatch, path, said):
    publish("cifar10", mirror, monkeypatch)
    with pytest.raises(NotFoundError, match=said) as refused:
        fetch.fetch("cifar10", f"{served}{path}", Witness())
    assert refused.value.exit_code == 3
    assert "doctor --fetch cifar10 --from URL" in str(refused.value)
    assert kept(folder) == []


def test_a_server_that_is_not_there_is_named(folder):
    with pytest.raises(NotFoundError, match=r"http://127\.0\.0\.1:1/cifar-10.*cannot be read"):
        fetch.fetch("cifar10", "http://127.0.0.1:1", Witness())
    assert kept(folder) == []


# What is not as it was published


def test_a_wrong_checksum_names_the_file_both_sums_and_the_mend(mirror, folder, monkeypatch):
    publish("cifar10", mirror, monkeypatch)
    file = mirror / "cifar-10-python.tar.gz"
    file.write_bytes(file.read_bytes()[:-100])
    expected = fetch.CHECKSUMS["cifar10"][file.name].removeprefix("sha256:")
    found = packed.checksum(file)
    with pytest.raises(DataError) as refused:
        fetched("cifar10", mirror)
    said = str(refused.value)
    assert f"{mirror.as_uri()}/{file.name} is not the publisher's file" in said
    assert f"its sha256 is {found} ({file.stat().st_size} bytes), expected was {expected}" in said
    assert "nothing of it is kept" in said
    assert "raylottery doctor --fetch cifar10 --from URL" in said
    assert refused.value.exit_code == 1
    assert kept(folder) == []


def test_the_checksums_that_are_shipped_are_the_publishers(mirror, folder, monkeypatch):
    """Files in the right format, and not the publisher's, are refused by his own sums."""
    sums = dict(fetch.CHECKSUMS["mnist"])
    publish("mnist", mirror, monkeypatch)
    monkeypatch.setitem(fetch.CHECKSUMS, "mnist", sums)
    with pytest.raises(DataError, match="expected was f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        fetched("mnist", mirror)
    assert kept(folder) == []


def lacks_a_batch(mirror: Path) -> None:
    file = mirror / "cifar-10-python.tar.gz"
    with tarfile.open(file) as archive:
        parts = [(m, archive.extractfile(m)) for m in archive if "batch_3" not in m.name]
        with tarfile.open(mirror / "other", "w:gz") as other:
            for member, content in parts:
                other.addfile(member, content)
    (mirror / "other").replace(file)


def is_no_archive(mirror: Path) -> None:
    (mirror / "cifar-10-python.tar.gz").write_bytes(b"<html>sign in first</html>")


def breaks_off(mirror: Path) -> None:
    file = mirror / "cifar-10-python.tar.gz"
    file.write_bytes(file.read_bytes()[:-5000])


@pytest.mark.parametrize("harm", [lacks_a_batch, is_no_archive, breaks_off])
def test_an_archive_that_cannot_be_read_leaves_nothing(mirror, folder, monkeypatch, harm):
    """Though its checksum were right."""
    publish("cifar10", mirror, monkeypatch)
    harm(mirror)
    trust("cifar10", mirror, monkeypatch)
    with pytest.raises(DataError, match=r"cifar10 cannot be read, .*cifar-10-python\.tar\.gz"):
        fetched("cifar10", mirror)
    assert kept(folder) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda plain: plain[:-9],
        lambda plain: b"\0\0\x09\x03" + plain[4:],
        lambda plain: plain[:3],
    ],
)
def test_an_idx_file_that_cannot_be_read_leaves_nothing(mirror, folder, monkeypatch, harm):
    publish("mnist", mirror, monkeypatch)
    file = mirror / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(harm(gzip.decompress(file.read_bytes()))))
    trust("mnist", mirror, monkeypatch)
    with pytest.raises(DataError, match="mnist cannot be read"):
        fetched("mnist", mirror)
    assert kept(folder) == []


def test_a_disk_that_is_full_while_an_archive_is_unpacked_is_said_to_be(
    mirror, folder, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    publish("cifar10", mirror, monkeypatch)
    monkeypatch.setattr(fetch, "extract_archive", full)
    with pytest.raises(UsageError, match=r"No space left on device\. Make room there"):
        fetched("cifar10", mirror)


def test_another_number_of_images_is_refused(mirror, folder, monkeypatch):
    publish("mnist", mirror, monkeypatch)
    size = DATASETS["mnist"]
    more = made_up(size)
    more = packed.Whole(
        x=np.concatenate([more.x, more.x[:1]]), y=np.concatenate([more.y, more.y[:1]]),
        x_test=more.x_test, y_test=more.y_test,
    )  # fmt: skip
    write_mnist("mnist", mirror, more)
    trust("mnist", mirror, monkeypatch)
    with pytest.raises(DataError, match=r"images \(\(51, 1, 28, 28\), .*expected were \(\(50, "):
        fetched("mnist", mirror)
    assert kept(folder) == []


@pytest.mark.parametrize("harm", ["short", "flipped", "absent"])
def test_a_damaged_data_set_is_told_of_and_fetched_again(mirror, monkeypatch, harm):
    publish("cifar100", mirror, monkeypatch)
    fetched("cifar100", mirror)
    size = DATASETS["cifar100"]
    file = packed.place("cifar100", size) / "train-x.npy"
    content = file.read_bytes()
    if harm == "absent":
        file.unlink()
    else:
        file.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if harm == "flipped" else b""))
    told = examined("cifar100", size)
    assert not told.sound
    assert told.found.endswith("Put it right with: raylottery doctor --fetch cifar100")
    witness = Witness()
    assert fetched("cifar100", mirror, witness)
    assert witness.lines[0].endswith("cifar100-50-v1: fetching it again")
    assert file.read_bytes() == content
    assert examined("cifar100", size).sound


# Interruptions, and others who fetch


class Interrupts(Witness):
    def arrived(self, count: int) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing(mirror, folder, monkeypatch):
    publish("cifar10", mirror, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fetched("cifar10", mirror, Interrupts())
    assert kept(folder) == []
    assert fetched("cifar10", mirror)


def test_what_a_killed_fetch_left_is_removed_by_the_next(mirror, folder, monkeypatch):
    publish("cifar10", mirror, monkeypatch)
    left = folder / ".cifar10-50-v1.0a1b2c3d.tmp"
    left.mkdir(parents=True)
    (left / "cifar-10-python.tar.gz").write_bytes(b"half")
    another = folder / ".mnist-50-v1.0a1b2c3d.tmp"
    another.mkdir()
    assert fetched("cifar10", mirror)
    assert kept(folder) == [another.name, "cifar10-50-v1"]


def test_of_two_fetches_at_once_one_waits_and_says_so(mirror, monkeypatch):
    publish("cifar10", mirror, monkeypatch)
    begun, waits = threading.Event(), threading.Event()

    class First(Witness):
        def begins(self, file: str, total: int | None) -> None:
            begun.set()
            assert waits.wait(60)

    class Second(Witness):
        def say(self, line: str) -> None:
            super().say(line)
            waits.set()

    outcome = {}

    def run(name: str, watcher: Witness) -> None:
        outcome[name] = fetched("cifar10", mirror, watcher)

    second = Second()
    first = threading.Thread(target=run, args=("first", First()))
    first.start()
    assert begun.wait(60)
    run("second", second)
    first.join()
    assert outcome == {"first": True, "second": False}
    assert second.lines == ["another process is fetching cifar10: waiting"]
    assert second.files == []


# What cannot be fetched


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist1d", "--fetch mnist1d: it is generated where it is used; nothing to fetch"),
        ("cifar-like", "--fetch cifar-like: it is generated where it is used; nothing to fetch"),
        ("cifar-10", "--fetch cifar-10: no such data set. Did you mean 'cifar10'?"),
        ("imagenet", "--fetch imagenet: no such data set. Valid: cifar10, cifar100, mnist, "),
    ],
)
def test_only_what_is_published_is_fetched(name, said, folder):
    with pytest.raises(UsageError) as refused:
        fetch.fetch(name, None, Witness())
    assert str(refused.value).startswith(said)
    assert not folder.exists()


@pytest.mark.parametrize("mirror", ["data/mirror", "ftp://somewhere/data", "file:", "https://"])
def test_a_mirror_is_the_address_of_a_folder(mirror, folder):
    with pytest.raises(UsageError, match=r"expected the http://, https:// or file:// address"):
        fetch.fetch("cifar10", mirror, Witness())
    assert not folder.exists()


def test_a_plain_folder_is_told_its_address(tmp_path):
    with pytest.raises(UsageError) as refused:
        fetch.fetch("cifar10", str(tmp_path), Witness())
    assert str(refused.value).endswith(f", such as {tmp_path.as_uri()}")


def test_data_that_are_missing_where_a_trial_runs_are_refused_with_the_command():
    with pytest.raises(
        UsageError, match=r"trainer\.dataset: cifar10 is not on .+\. Fetch it once"
    ):
        loaded("cifar10")
