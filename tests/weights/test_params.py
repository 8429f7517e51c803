"""Parameter files: the reader against MXNet's writer, damaged files, and loading into networks."""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import fill, images, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from mxnet.gluon.model_zoo import vision

from mnssd.errors import WeightsError
from mnssd.nn import SSD, MobileNetV1, MobileNetV2
from mnssd.runtime.settings import wait_all
from mnssd.weights import WeightsReport, assign, load_backbone, load_strict, read_params

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")


def save(path: Path, arrays: Dict[str, np.ndarray]) -> str:
    """Write with MXNet."""
    mx.nd.save(str(path), {name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()})
    return str(path)


def small_net(seed: int = 0, width: float = 0.25, classes: int = 10) -> MobileNetV2:
    net = MobileNetV2(width, classes=classes)
    net.initialize()
    net(images(1, 32, 32))
    fill(net, seed)
    return net


@functools.lru_cache(maxsize=None)
def small_values(seed: int) -> Dict[str, np.ndarray]:
    """Arrays of a `small_net`; do not modify."""
    return values(small_net(seed))


def small_detector(**options: Any) -> SSD:
    return SSD(MobileNetV2(0.25, 1), ["a", "b"], (96, 96), **options)


# ---- reading -----------------------------------------------------------------------------------------------


@st.composite
def any_arrays(draw: Any) -> Dict[str, np.ndarray]:
    names = draw(st.lists(st.text("abä.:_0/", min_size=1, max_size=12), min_size=1, max_size=5, unique=True))
    shapes = npst.array_shapes(min_dims=1, max_dims=5, max_side=4)
    return {name: draw(npst.arrays(draw(st.sampled_from(DTYPES)), draw(shapes))) for name in names}


@QUICK
@given(arrays=any_arrays())
def test_reads_what_mxnet_writes(tmp_path: Path, arrays: Dict[str, np.ndarray]) -> None:
    result = read_params(save(tmp_path / "a.params", arrays))
    assert list(result) == list(arrays)
    for name, value in arrays.items():
        assert result[name].dtype == value.dtype
        np.testing.assert_array_equal(result[name], value)


def test_arrays_are_writable_copies(tmp_path: Path) -> None:
    """Views would keep the whole file in memory."""
    result = read_params(
        save(tmp_path / "a.params", {"a": np.ones(3, "float32"), "b": np.zeros(2, "float32")})
    )
    result["a"][:] = 7
    assert result["a"].base is None
    assert result["b"].tolist() == [0, 0]


def test_reads_what_gluon_writes(tmp_path: Path) -> None:
    net = small_net()
    by_structure, by_name = str(tmp_path / "structure.params"), str(tmp_path / "name.params")
    wait_all()
    net.save_parameters(by_structure)
    net.collect_params().save(by_name)
    for path in (by_structure, by_name):
        for (name, value), (expected_name, expected) in zip(
            read_params(path).items(), mx.nd.load(path).items()
        ):
            assert name == expected_name
            np.testing.assert_array_equal(value, expected.asnumpy())


def test_prefixes_of_symbol_files_are_removed(tmp_path: Path) -> None:
    net = small_net()
    net.hybridize()
    net(images(1, 32, 32))
    net.export(str(tmp_path / "net"))
    names = set(mx.nd.load(str(tmp_path / "net-0000.params")))
    assert {name[:4] for name in names} == {"arg:", "aux:"}
    assert set(read_params(str(tmp_path / "net-0000.params"))) == {name[4:] for name in names}


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.params", {"arg:x": np.ones(1, "float32"), "aux:x": np.ones(1, "float32")})
    with pytest.raises(WeightsError, match=r"a\.params"):
        read_params(path)


def test_shared_weights_are_read(shared: Path) -> None:
    assert len(read_params(str(shared / "weights" / "mobilenet_v2_1_0-imagenet.params"))) == 266


# ---- damaged files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("weights") / "small.params"
    arrays = {"a.weight": rng.normal(size=(2, 3, 1, 1)), "b.beta": rng.normal(size=4), "c": np.zeros((1, 2))}
    save(path, {name: value.astype("float32") for name, value in arrays.items()})
    return path


def test_truncated_file_is_refused(small_file: Path, tmp_path: Path) -> None:
    whole, path = small_file.read_bytes(), tmp_path / "cut.params"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.params"):
            read_params(str(path))
    path.write_bytes(whole + b"\0")
    with pytest.raises(WeightsError, match=r"cut\.params.*\b1\b"):
        read_params(str(path))


def test_changed_bytes_are_refused_or_change_values(small_file: Path, tmp_path: Path) -> None:
    """A file that is not refused has the same number of arrays and values."""
    whole, path = small_file.read_bytes(), tmp_path / "changed.params"
    count = sum(value.size for value in read_params(str(small_file)).values())
    rng, refused = np.random.default_rng(1), 0
    for _ in range(500):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), rng.integers(1, 5)):
            data[position] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        path.write_bytes(bytes(data))
        try:
            result = read_params(str(path))
        except WeightsError:
            refused += 1
        else:
            assert len(result) == 3
            # With a dtype of half the size, the rest of the data is read as the next header and refused.
            assert sum(value.size for value in result.values()) == count
    assert 150 < refused < 500


@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 1, 2**40, 4, 2, 0])
def test_wrong_counts_are_refused(small_file: Path, tmp_path: Path, value: int) -> None:
    data = bytearray(small_file.read_bytes())
    arrays_end = len(data) - sum(8 + len(name) for name in ("a.weight", "b.beta", "c")) - 8
    for offset in (16, arrays_end):  # the number of arrays, the number of names
        assert struct.unpack_from("<Q", data, offset) == (3,)
        changed = bytearray(data)
        struct.pack_into("<Q", changed, offset, value)
        (tmp_path / "absurd.params").write_bytes(bytes(changed))
        with pytest.raises(WeightsError, match=r"absurd\.params"):
            read_params(str(tmp_path / "absurd.params"))


def test_absurd_shapes_are_refused(small_file: Path, tmp_path: Path) -> None:
    data = bytearray(small_file.read_bytes())
    first_extent = 24 + 12  # after the file header and the array's magic number, storage type and dimensions
    assert struct.unpack_from("<4q", data, first_extent) == (2, 3, 1, 1)
    for shape in [(2**62,) * 4, (-1, 3, 1, 1), (2**62, 0, 2**62, 1), (0, 3, 1, 1), (3, 3, 1, 1)]:
        struct.pack_into("<4q", data, first_extent, *shape)
        (tmp_path / "absurd.params").write_bytes(bytes(data))
        with pytest.raises(WeightsError, match=r"absurd\.params"):
            read_params(str(tmp_path / "absurd.params"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\0." * 20, b"hello\n"])
def test_other_formats_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.params").write_bytes(content)
    with pytest.raises(WeightsError, match=r"other\.params"):
        read_params(str(tmp_path / "other.params"))


def test_sparse_and_unnamed_arrays_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "odd.params")
    mx.nd.save(path, {"a": mx.nd.ones((2, 2)).tostype("row_sparse")})
    with pytest.raises(WeightsError, match=r"odd\.params"):
        read_params(path)
    mx.nd.save(path, [mx.nd.ones((2, 2))])
    with pytest.raises(WeightsError, match=r"odd\.params.*\b1\b.*\b0\b"):
        read_params(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.params"):
        read_params(str(tmp_path / "absent.params"))
    with pytest.raises(WeightsError, match=str(tmp_path)):
        read_params(str(tmp_path))


# ---- assignment and report ---------------------------------------------------------------------------------


def faulty_arrays(net: Any) -> Dict[str, np.ndarray]:
    """Weights for `net`: one array extra, one missing, one with another shape, one with another rank."""
    arrays = {name: value + 1 for name, value in values(net).items()}
    arrays["features.99.weight"] = np.ones((1, 1), "float32")
    del arrays["features.1.gamma"]
    arrays["features.0.weight"] = np.zeros((5, 3, 3, 3), "float32")
    arrays["features.21.beta"] = np.zeros((1280, 1), "float32")
    return arrays


def test_report_lists_each_array_once() -> None:
    net = small_net()
    before = values(net)
    report = assign(net, faulty_arrays(net), "w.params")
    unchanged = {"features.1.gamma", "features.0.weight", "features.21.beta"}
    assert report.unused == ["features.99.weight"]
    assert report.missing == ["features.1.gamma"]
    assert report.mismatched == [
        "features.0.weight (file (5, 3, 3, 3), network (8, 3, 3, 3))",
        "features.21.beta (file (1280, 1), network (1280,))",
    ]
    assert set(report.loaded) == set(before) - unchanged
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, before[name] + (name not in unchanged))


def test_report_lines_shorten_long_lists() -> None:
    report = WeightsReport("w.params", loaded=["a"], unused=[f"u{i}" for i in range(8)], missing=["m"])
    loaded, unused, missing = report.lines()
    assert "w.params: 1 " in loaded
    assert unused.split()[0] == "8"
    assert unused.endswith(": u0, u1, u2, u3, u4, u5 and 2 more")
    assert missing.split()[0] == "1"
    assert missing.endswith(": m")


@pytest.mark.parametrize("state", ["fresh", "initialized", "run", "hybridized"])
def test_assign_in_every_state_of_the_network(state: str) -> None:
    arrays = small_values(1)
    net = MobileNetV2(0.25, classes=10)
    x = images(2, 32, 32)
    if state != "fresh":
        net.initialize()
    if state == "hybridized":
        net.hybridize(static_alloc=True, static_shape=True)
    if state in ("run", "hybridized"):
        net(x)
    report = assign(net, arrays, "w.params")
    assert sorted(report.loaded) == sorted(arrays)
    for name, value in values(net).items():  # before the first forward pass
        np.testing.assert_array_equal(value, arrays[name])
    np.testing.assert_allclose(net(x).asnumpy(), small_net(1)(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_unknown_shapes_are_set() -> None:
    block = mx.gluon.SymbolBlock(
        mx.sym.FullyConnected(mx.sym.var("data", dtype="float32"), num_hidden=3, name="fc"),
        [mx.sym.var("data", dtype="float32")],
    )
    assert block.params["fc_weight"].shape is None
    arrays = {"weight": np.ones((3, 2), "float32"), "bias": np.zeros(3, "float32")}
    report = assign(block, arrays, "w.params")
    assert sorted(report.loaded) == ["bias", "weight"]
    assert block(mx.nd.ones((1, 2))).asnumpy().tolist() == [[2, 2, 2]]


def test_second_assignment_replaces_the_first() -> None:
    net, first, second = MobileNetV2(0.25, classes=10), small_values(1), small_values(2)
    assign(net, first, "1")
    report = assign(net, second, "2")
    assert report.path == "2"
    assert len(report.loaded) == len(second)
    np.testing.assert_array_equal(net.features[0].weight.data().asnumpy(), second["features.0.weight"])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_float_types_are_converted(dtype: str) -> None:
    net, arrays = MobileNetV2(0.25, classes=10), small_values(1)
    assign(net, {name: value.astype(dtype) for name, value in arrays.items()}, "w")
    weight = net.features[0].weight.data()
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight.asnumpy(), arrays["features.0.weight"], rtol=1e-3, atol=1e-4)


# ---- whole files into networks -----------------------------------------------------------------------------


def test_load_strict_refuses_other_networks(tmp_path: Path) -> None:
    net, path = small_net(), str(tmp_path / "own.params")
    wait_all()
    net.save_parameters(path)
    fresh = MobileNetV2(0.25, classes=10)
    report = load_strict(fresh, path)
    assert not report.missing + report.mismatched + report.unused
    x = images(1, 32, 32)
    np.testing.assert_allclose(fresh(x).asnumpy(), net(x).asnumpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(WeightsError, match=r"(?s)own\.params.*\n.*: output\.0\.weight"):
        load_strict(MobileNetV2(0.25, classes=11), path)
    with pytest.raises(WeightsError, match=r"own\.params"):
        load_strict(MobileNetV2(0.25, classes=10, shortcut="projection"), path)
    arrays = values(net)
    arrays["extra"] = np.zeros(1, "float32")
    with pytest.raises(WeightsError, match=r"(?s)more\.params.* 1 .*: extra"):
        load_strict(net, save(tmp_path / "more.params", arrays))


def classifier_file(tmp_path: Path, form: str, net: Any) -> str:
    path = str(tmp_path / f"{form}.params")
    wait_all()
    (net.features if form == "features" else net).save_parameters(path)
    return path


@pytest.mark.parametrize("form", ["classifier", "features", "zoo"])
def test_backbone_from_a_classifier_file(tmp_path: Path, form: str) -> None:
    source = vision.MobileNetV2(0.25, classes=10) if form == "zoo" else small_net()
    source.initialize(force_reinit=True)
    source(images(1, 32, 32))
    fill(source, 5)
    path = classifier_file(tmp_path, form, source)
    net = small_detector()
    report = load_backbone(net.heads, path)
    assert not report.missing + report.mismatched
    assert report.unused == ([] if form == "features" else ["output.0.weight"])
    assert report.path == path
    expected = values(source)
    for name, value in values(net.heads.backbone).items():
        np.testing.assert_array_equal(value, expected[name])


def test_classifier_from_a_classifier_file(tmp_path: Path) -> None:
    """The last layer is loaded if the number of classes is the same, else reported."""
    path = classifier_file(tmp_path, "classifier", small_net())
    assert "output.0.weight" in load_backbone(MobileNetV2(0.25, classes=10), path).loaded
    report = load_backbone(MobileNetV2(0.25, classes=7), path)
    assert [text.split()[0] for text in report.mismatched] == ["output.0.weight"]
    assert len(report.loaded) == len(read_params(path)) - 1


def test_detector_from_a_detector_file_with_other_classes(tmp_path: Path) -> None:
    """All weights are loaded except the class predictors."""
    trained = small_detector()
    trained.initialize()
    trained(images(1, 96, 96))
    fill(trained.heads, 1)
    path = str(tmp_path / "best.params")
    wait_all()
    trained.heads.save_parameters(path)
    net = SSD(MobileNetV2(0.25, 1), ["a", "b", "c"], (96, 96))
    net.initialize()
    report = load_backbone(net.heads, path)
    assert not report.unused + report.missing
    assert {text.split(".")[0] for text in report.mismatched} == {"class_predictors"}
    np.testing.assert_array_equal(
        values(net.heads.box_predictors)["0.weight"], values(trained.heads.box_predictors)["0.weight"]
    )
    assert net(images(1, 96, 96))[0].shape[2] == 1


@pytest.mark.parametrize(
    "other",
    [MobileNetV1(0.25, 10), MobileNetV2(0.5, 10), vision.MobileNet(0.25, classes=10)],
    ids=["another family", "another width", "the zoo's V1"],
)
def test_file_of_another_network_is_refused(tmp_path: Path, other: Any) -> None:
    other.initialize()
    other(images(1, 32, 32))
    for form in ("classifier", "features"):
        path = classifier_file(tmp_path, form, other)
        for network in (small_detector().heads, MobileNetV2(0.25)):
            with pytest.raises(WeightsError, match=r"--network .*--width") as raised:
                load_backbone(network, path)
            assert str(path) in str(raised.value)


def test_file_without_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.params"
    path.write_bytes(struct.pack("<QQQQ", 0x112, 0, 0, 0))
    with pytest.raises(WeightsError, match=r"empty\.params"):
        load_backbone(small_detector().heads, str(path))


def test_shared_v1_features_are_loaded(shared: Path) -> None:
    heads = SSD(MobileNetV1(activation="relu6"), ["a"], (96, 96)).heads
    report = load_backbone(heads, str(shared / "weights" / "mobilenet1_0-imagenet-features.params"))
    assert not report.unused + report.missing + report.mismatched
    assert len(report.loaded) == 27 * 5
