"""Every kind of image in docs/inputs.md is decoded to the right pixels, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import PIL
import pytest
from helpers import image_kinds as kinds
from helpers.image_cases import READ, REFUSED
from helpers.tiff_files import (
    DEFLATE,
    GRAY,
    PACKBITS,
    RAW,
    RGB,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    as_rgb,
    levels,
    tiff,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnssd.data.image import decode_image, image_size, read_image
from mnssd.errors import ImageError

OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 11
_ENDINGS = {"TGA": ".tga", "PCX": ".pcx"}  # kinds that first bytes do not tell


def pairs(rows: Dict[str, Dict[str, object]]) -> List[Tuple[str, str]]:
    return [(row, case) for row, cases in rows.items() for case in cases]


@pytest.mark.parametrize(("row", "case"), pairs(READ))
def test_pixels(row: str, case: str, tmp_path: Path) -> None:
    if OLD_PILLOW and case == "unspecified, planes":
        pytest.skip("refused with Pillow 10")
    if row == "AVIF" and not Image.registered_extensions().get(".avif"):
        pytest.skip("Pillow without AVIF")
    data, expected, tolerance = READ[row][case]()
    path = tmp_path / f"x{_ENDINGS.get(case[:3], '')}"
    path.write_bytes(data)
    image = read_image(path)
    assert (image.dtype, image.shape) == (np.uint8, expected.shape)
    assert np.abs(image.astype(float) - expected).max() <= tolerance
    assert image_size(path) == (expected.shape[1], expected.shape[0])
    half = read_image(path, 2)
    assert half.shape == (-(-expected.shape[0] // 2), -(-expected.shape[1] // 2), 3)


@pytest.mark.parametrize(("row", "case"), pairs(REFUSED))
def test_other_kinds_are_refused_by_name(row: str, case: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(REFUSED[row][case]())
    messages = set()
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="photo") as error:
            read(path)
        messages.add(str(error.value))
    assert not any("damaged" in message for message in messages)


@pytest.mark.parametrize(
    ("heading", "rows"), [("Images that are read", READ), ("Images that are refused", REFUSED)]
)
def test_the_page_has_a_row_for_each_kind(heading: str, rows: Dict[str, object]) -> None:
    page = (Path(__file__).parents[2] / "docs/inputs.md").read_text(encoding="utf-8")
    section = re.split(r"^#+ ", page.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert [line.split("|")[1].strip() for line in lines] == list(rows)


@pytest.mark.parametrize("size", [70_000, 200_000])
def test_orientation_after_many_pixels(size: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, size // 300, 3), dtype=np.uint8)
    exif = kinds.chunk(b"eXIf", kinds.exif(6).tobytes()[6:])
    (tmp_path / "x.png").write_bytes(kinds.png(noise, 2, after=exif))
    assert image_size(tmp_path / "x.png") == (100, size // 300)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rot90(noise, -1))


@pytest.mark.parametrize("case", ["RGB of 16 bits, planes", "gray of 16 bits, tiles", "RGB, planes of tiles"])
def test_truncated_tiff_is_refused(case: str) -> None:
    data, _, _ = READ["TIFF, storage"][case]()
    for length in range(8, len(data), max(1, len(data) // 20)):
        with pytest.raises(ImageError):
            decode_image(data[:length], "x.tif")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tiff_of_any_layout(data: st.DataObject) -> None:
    draw = data.draw
    photometric, alpha = draw(st.sampled_from([(WHITE_IS_ZERO, 0), (GRAY, 0), (RGB, 0), (RGB, 1), (RGB, 2)]))
    bits = draw(st.sampled_from([8, 16] if photometric == RGB else [1, 2, 4, 8, 16]))
    width, height = draw(st.integers(1, 50)), draw(st.integers(1, 40))
    order = draw(st.sampled_from("<" if photometric == WHITE_IS_ZERO else "<>"))
    compression = draw(st.sampled_from([RAW, DEFLATE, PACKBITS]))
    alpha = min(alpha, 1) if bits == 16 else alpha
    count = (3 if photometric == RGB else 1) + alpha
    seed = draw(st.integers(0, 99))
    samples = (
        np.random.default_rng(seed)
        .integers(0, 1 << bits, (height, width, count))
        .astype(f"u{max(1, bits // 8)}")
    )
    planar = count > 1 and not (OLD_PILLOW and alpha == 2) and draw(st.booleans())
    # Alpha and a further sample in planes are refused.
    first_extra = [UNASSOCIATED] if OLD_PILLOW else [0] if planar and alpha == 2 else [0, UNASSOCIATED]
    content = tiff(
        samples, bits, photometric,
        tile=draw(st.one_of(st.none(), st.tuples(*[st.sampled_from([16, 32, 48, 64])] * 2))),
        rows=draw(st.integers(1, height)),
        planar=planar,
        order=order,
        big=order == "<" and draw(st.booleans()),
        compression=compression,
        predictor=draw(st.sampled_from([1, 2])) if compression == DEFLATE and bits >= 8 else 1,
        extra=[draw(st.sampled_from(first_extra)), 0][:alpha],
    )  # fmt: skip
    expected = levels(samples[:, :, :3], bits)
    expected = expected if photometric == RGB else as_rgb(expected)
    image = decode_image(content, "x")
    np.testing.assert_array_equal(image, 255 - expected if photometric == WHITE_IS_ZERO else expected)
