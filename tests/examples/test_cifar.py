"""The CIFAR-10 reader of the paper's experiments, on tiny archives that are written here."""

import gzip
import importlib.util
import io
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PAPER = Path(__file__).parents[2] / "examples" / "paper"
spec = importlib.util.spec_from_file_location("cifar_under_test", PAPER / "cifar.py")
cifar = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = cifar
spec.loader.exec_module(cifar)

RNG = np.random.default_rng(0)
N = 6
LABELS = [0, 1, 2, 0, 1, 2]
PIXELS = {name: RNG.integers(0, 256, (N, 3072), dtype=np.uint8) for name in (*cifar.TRAINING, *cifar.TEST)}


def batch(name, **changes):
    found = {b"batch_label": name.encode(), b"labels": LABELS, b"data": PIXELS[name], b"filenames": [b"a.png"] * N}
    return pickle.dumps(found | {key.encode(): value for key, value in changes.items()}, protocol=2)


def write(path, changed=None, left_out=()):
    """An archive of the original layout; ``changed`` replaces the content of members."""
    with tarfile.open(path, "w:gz") as archive:
        for name in (*cifar.TRAINING, *cifar.TEST):
            if name not in left_out:
                content = (changed or {}).get(name, batch(name))
                member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def python2_batch(name):
    """As Python 2 wrote the original: byte strings as SHORT_BINSTRING and numpy's old module name."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def data(pixels):
        raw = pixels.tobytes()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01"
            b"M"
            + len(pixels).to_bytes(2, "little")
            + b"M\x00\x0c\x86cnumpy\ndtype\n"
            + text(b"u1")
            + b"K\x00K\x01\x87R"
            b"(K\x03"
            + text(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
            + len(raw).to_bytes(4, "little")
            + raw
            + b"tb"
        )

    labels = b"](" + b"".join(b"K" + bytes([label]) for label in LABELS) + b"e"
    return b"\x80\x02}(" + text(b"labels") + labels + text(b"data") + data(PIXELS[name]) + b"u."


@pytest.mark.parametrize("python2", [False, True])
def test_reads_what_was_written(tmp_path, python2):
    changed = {name: python2_batch(name) for name in cifar.TRAINING} if python2 else None
    found = cifar.read_archive(write(tmp_path / "tiny.tar.gz", changed))
    assert found.pixels.shape == (5 * N, 3, 32, 32)
    np.testing.assert_array_equal(found.pixels.reshape(5, N, 3072), [PIXELS[name] for name in cifar.TRAINING])
    assert found.labels.tolist() == LABELS * 5
    if python2:  # the writer above writes what pickle reads as the same
        known = pickle.loads(changed["data_batch_1"], encoding="bytes")
        np.testing.assert_array_equal(known[b"data"], PIXELS["data_batch_1"])


def test_dataset_takes_as_many_of_each_class(tmp_path):
    path = write(tmp_path / "tiny.tar.gz")
    data = cifar.CIFAR10(path, 2, per_class=3)
    assert data.classes == ("airplane", "automobile")
    assert data.labels.bincount().tolist() == [3, 3]
    image, label = data[0]
    expected = (PIXELS["data_batch_1"][0].reshape(3, 32, 32).astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-6)
    assert label == 0
    assert len(cifar.CIFAR10(path, 3, train=False)) == N
    with pytest.raises(cifar.ArchiveError, match="no images of the class cat"):
        cifar.CIFAR10(path, 4)


class Evil:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["labels", "data", "filenames"])
@pytest.mark.parametrize("function", [os.mkdir, exec, eval, getattr, np.load, __import__], ids=lambda f: f.__name__)
def test_malicious_pickle_is_refused_and_not_run(tmp_path, place, function):
    target = tmp_path / "made by the pickle"
    argument = str(target) if function is os.mkdir else f"__import__('os').mkdir({str(target)!r})"
    content = batch("data_batch_1", **{place: Evil(function, argument)})
    if function in (os.mkdir, exec, eval):  # it would do harm where it is allowed to
        pickle.loads(content)
        assert target.exists()
        target.rmdir()
    path = write(tmp_path / "evil.tar.gz", {"data_batch_1": content})
    with pytest.raises(cifar.ArchiveError, match="which CIFAR-10 has not; nothing of it was run"):
        cifar.read_archive(path)
    assert not target.exists()


# GLOBAL, then BUILD with a state: a pickle can change the attributes of what it was given
@pytest.mark.parametrize("name", [b"_codecs\nencode", b"numpy\ndtype", b"numpy\nndarray"])
@pytest.mark.parametrize("state", [b"}U\x01aK\x01s", b"N}U\x0c__setstate__K\x01s\x86"])
def test_pickle_cannot_change_the_reader(tmp_path, name, state):
    before = {key: value for key, value in vars(cifar).items() if not key.startswith("__")}
    path = write(tmp_path / "evil.tar.gz", {"data_batch_1": b"\x80\x02c" + name + b"\n" + state + b"b."})
    with pytest.raises(cifar.ArchiveError):
        cifar.read_archive(path)
    assert all(vars(cifar)[key] is value for key, value in before.items())
    assert callable(cifar._Dtype.__setstate__)
    cifar.read_archive(write(tmp_path / "good.tar.gz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": PIXELS["data_batch_1"][:, :100]}, r"data of shape \(6, 100\) with 6 labels"),
        ({"data": PIXELS["data_batch_1"][:4]}, r"data of shape \(4, 3072\) with 6 labels"),
        ({"data": PIXELS["data_batch_1"].astype(np.float32)}, "not of unsigned bytes"),
        ({"data": PIXELS["data_batch_1"].tolist()}, "no array `data`"),
        ({"labels": [0, 1, 2, 0, 1, 10]}, "whole numbers from 0 to 9"),
        ({"labels": [0, 1, 2, 0, 1, -1]}, "whole numbers from 0 to 9"),
        ({"labels": [0, 1, 2, 0, 1, 0.5]}, "whole numbers from 0 to 9"),
        ({"labels": []}, r"data of shape \(6, 3072\) with 0 labels; .* 1 to 10000 images"),
    ],
)
def test_wrong_content_is_refused(tmp_path, changes, message):
    path = write(tmp_path / "wrong.tar.gz", {"data_batch_1": batch("data_batch_1", **changes)})
    with pytest.raises(cifar.ArchiveError, match=message):
        cifar.read_archive(path)


def test_object_array_is_refused(tmp_path):
    objects = np.array([Evil(os.mkdir, str(tmp_path / "made"))], dtype=object)
    path = write(tmp_path / "wrong.tar.gz", {"data_batch_1": batch("data_batch_1", data=objects)})
    with pytest.raises(cifar.ArchiveError):
        cifar.read_archive(path)
    assert not (tmp_path / "made").exists()


def test_missing_file_member_and_foreign_archives(tmp_path):
    with pytest.raises(cifar.ArchiveError, match=r"There is no file .* https://www.cs.toronto.edu/~kriz/cifar.html"):
        cifar.read_archive(tmp_path / "none.tar.gz")
    with pytest.raises(cifar.ArchiveError, match="has no cifar-10-batches-py/data_batch_3"):
        cifar.read_archive(write(tmp_path / "missing.tar.gz", left_out=("data_batch_3",)))
    (tmp_path / "text").write_text("not an archive")
    with pytest.raises(cifar.ArchiveError, match="damaged, truncated or no gzipped tar"):
        cifar.read_archive(tmp_path / "text")
    with gzip.open(tmp_path / "no_tar.gz", "wb") as file:
        file.write(b"x" * 5000)
    with pytest.raises(cifar.ArchiveError, match="damaged, truncated or no gzipped tar"):
        cifar.read_archive(tmp_path / "no_tar.gz")
    path = write(tmp_path / "link.tar.gz", left_out=("data_batch_1",))
    with tarfile.open(tmp_path / "with_link.tar.gz", "w:gz") as archive, tarfile.open(path) as other:
        for member in other.getmembers():
            archive.addfile(member, other.extractfile(member))
        link = tarfile.TarInfo(f"{cifar.FOLDER}/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(cifar.ArchiveError, match="no plain file"):
        cifar.read_archive(tmp_path / "with_link.tar.gz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_archive_is_refused(tmp_path, share):
    whole = write(tmp_path / "whole.tar.gz").read_bytes()
    path = tmp_path / "truncated.tar.gz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(cifar.ArchiveError):
        cifar.read_archive(path, (*cifar.TRAINING, *cifar.TEST))


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "MAX_MEMBER", 1000)
    with pytest.raises(cifar.ArchiveError, match="no plain file of at most"):
        cifar.read_archive(write(tmp_path / "tiny.tar.gz"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_pickle_gives_one_of_two_ends(position, value):
    """Any changed byte: images of the right shape, or one sentence."""
    content = bytearray(batch("data_batch_1"))
    content[position % len(content)] = value
    try:
        found = cifar._images(bytes(content), "data_batch_1")
    except cifar.ArchiveError:
        return
    assert found.pixels.shape == (len(found.labels), 3, 32, 32)
