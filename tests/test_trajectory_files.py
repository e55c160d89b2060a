"""What ``Trajectory.load`` says of files that ``save`` did not write, or that came to harm since."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from le_callback import Trajectory
from le_callback.recorder import SourceTrajectory

T, K, P = 6, 3, 4


def trajectory():
    g = np.random.default_rng(0)
    means = g.normal(size=(T, K, P)).astype(np.float32)
    noise, counts = g.random((T, K)).astype(np.float32), np.full((T, K), 5, np.float32)
    return Trajectory(
        {"features": SourceTrajectory(np.arange(T, dtype=float), means, noise, counts)}, "step", tuple("abc")
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.npz"
    trajectory().save(path)
    return path.read_bytes()


def arrays_of(saved):
    with np.load(io.BytesIO(saved)) as archive:
        return dict(archive)


def load_bytes(tmp_path, content):
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    return Trajectory.load(path)


def load_arrays(tmp_path, arrays):
    path = tmp_path / "file.npz"
    np.savez(path, **arrays)
    return Trajectory.load(path)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_what_was_saved_comes_back(tmp_path, saved):
    before, after = trajectory(), load_bytes(tmp_path, saved)
    assert (after.time_unit, after.class_names) == ("step", ("a", "b", "c"))
    for name, array in vars(before.sources["features"]).items():
        again = getattr(after.sources["features"], name)
        np.testing.assert_array_equal(again, array)
        assert again.dtype == array.dtype


FOREIGN = {
    "empty": b"",
    "text": b"step,loss\n1,0.5\n",
    "pickle": pickle.dumps({"about": 1}),
    "array": npy(np.arange(3)),
    "objects": npz(about=np.array([{"a": 1}], dtype=object)),
    "zip without arrays": zipped(**{"readme.txt": "hello"}),
    "about that is text": zipped(**{"about.npy": "hello"}),
    "empty zip": zipped(),
    "other npz": npz(weights=np.zeros(3)),
    "about without json": npz(about=np.array("run 7")),
    "about of numbers": npz(about=np.zeros(3)),
    "about is a list": npz(about=np.array("[1]")),
    "about is null": npz(about=np.array("null")),
    "no names": npz(about=np.array(json.dumps({"format": 1, "time_unit": "step"}))),
    "names are no strings": npz(about=np.array(json.dumps({"format": 1, "time_unit": "step", "class_names": [1]}))),
    "names are one string": npz(about=np.array(json.dumps({"format": 1, "time_unit": "step", "class_names": "ab"}))),
    "no unit": npz(about=np.array(json.dumps({"format": 1, "class_names": ["a"]}))),
    "another format": npz(about=np.array(json.dumps({"format": 7, "time_unit": "step", "class_names": ["a"]}))),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(tmp_path, kind):
    with pytest.raises(ValueError, match=r"trajectory .*file\.npz.*\.$|trajectory written by"):
        load_bytes(tmp_path, FOREIGN[kind])


def test_a_directory(tmp_path):
    with pytest.raises(ValueError, match="is none or is damaged"):
        Trajectory.load(tmp_path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Trajectory.load(tmp_path / "nowhere.npz")


CHANGED = {
    "fewer times": ("times", lambda x: x[:-1]),
    "times in two columns": ("times", lambda x: np.stack([x, x], 1)),
    "times backwards": ("times", lambda x: x[::-1]),
    "times not finite": ("times", lambda x: np.where(x == 2, np.nan, x)),
    "times are text": ("times", lambda x: x.astype(str)),
    "times are truth values": ("times", lambda x: x > 2),
    "fewer means": ("means", lambda x: x[:-1]),
    "means without dimension": ("means", lambda x: x[..., 0]),
    "one class less": ("means", lambda x: x[:, :-1]),
    "complex means": ("means", lambda x: x.astype(complex)),
    "object means": ("means", lambda x: x.astype(object)),
    "no dimension left": ("means", lambda x: x[..., :0]),
    "fewer classes in the noise": ("mean_noise", lambda x: x[:, :-1]),
    "noise of other windows": ("mean_noise", lambda x: x[1:]),
    "a number for counts": ("counts", lambda x: np.float32(3)),
    "counts the other way": ("counts", lambda x: x.T),
    "counts below zero": ("counts", lambda x: x - 9),
}


@pytest.mark.parametrize("case", CHANGED)
def test_inconsistent_files(tmp_path, saved, case):
    field, change = CHANGED[case]
    arrays = arrays_of(saved)
    arrays[f"features/{field}"] = change(arrays[f"features/{field}"])
    with pytest.raises(ValueError, match=rf"features/{field}|features/means|is none or is damaged"):
        load_arrays(tmp_path, arrays)


@pytest.mark.parametrize("field", ["times", "means", "mean_noise", "counts"])
def test_a_missing_field(tmp_path, saved, field):
    arrays = arrays_of(saved)
    del arrays[f"features/{field}"]
    with pytest.raises(ValueError, match=f"features/{field} is missing"):
        load_arrays(tmp_path, arrays)


def test_an_unknown_source(tmp_path, saved):
    arrays = arrays_of(saved) | {"pixels/times": np.arange(3.0)}
    with pytest.raises(ValueError, match="a source 'pixels'"):
        load_arrays(tmp_path, arrays)


def test_names_of_other_classes(tmp_path, saved):
    arrays = arrays_of(saved)
    arrays["about"] = np.array(json.dumps({"format": 1, "time_unit": "step", "class_names": ["a", "b"]}))
    with pytest.raises(ValueError, match="names 2 classes, and features/means has 3"):
        load_arrays(tmp_path, arrays)


def test_a_source_that_is_missing(tmp_path, saved):
    """As where a damaged byte in the list of contents of the archive hides its members."""
    arrays = {key: x for key, x in arrays_of(saved).items() if not key.startswith("features/")}
    with pytest.raises(ValueError, match="features/times is missing"):
        load_arrays(tmp_path, arrays)


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_anywhere(tmp_path_factory, saved, share):
    with pytest.raises(ValueError, match="is none or is damaged"):
        load_bytes(tmp_path_factory.mktemp("cut"), saved[: int(share * len(saved))])


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_byte_is_told_or_changes_nothing(tmp_path_factory, saved, place, flip):
    content = bytearray(saved)
    content[int(place * len(content))] ^= flip
    try:
        found = load_bytes(tmp_path_factory.mktemp("flipped"), bytes(content))
    except ValueError as error:
        assert str(error).endswith(".")  # noqa: PT017 -- most bytes, but not all, matter
    else:
        assert found.class_names == ("a", "b", "c")
        np.testing.assert_array_equal(found.sources["features"].means, trajectory().sources["features"].means)
