"""Shared weights: the weights of a layer take few values, as in Deep Compression (Han et al. 2016).

A layer has a codebook of values, found by k-means; a weight is the value of its code times the scale of its
output channel, the root mean square of its weights. Folding BatchNorm makes the channels of a layer so
different that one codebook without scales does not fit them (`benchmarks/SMALL-NETWORKS.md`).
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from .options import SHARED_BITS

SMALL_CHANNEL = 64
"""Layers with fewer weights per output channel, such as depthwise ones, always have codes of the most bits:
they are one hundredth of the weights, and each of their weights matters more."""

ITERATIONS = 50
"""Of k-means, if it does not end before. More make the errors smaller and the Huffman codes longer, as the
values get closer where there are many weights; files of the same size then have larger errors
(`benchmarks/SMALL-NETWORKS.md`)."""


class SharedWeights(NamedTuple):
    """Weights of one layer.

    Attributes
    ----------
    codes : numpy.ndarray
        uint8, of the shape of the weights; indices into `values`.
    values : numpy.ndarray
        ``(1 to 256,)`` float32, ascending.
    scales : numpy.ndarray
        ``(channels,)`` float32; channels are the first axis of `codes`.
    """

    codes: np.ndarray
    values: np.ndarray
    scales: np.ndarray

    def expand(self) -> np.ndarray:
        """The weights, float32."""
        scales = self.scales.reshape((-1,) + (1,) * (self.codes.ndim - 1))
        return np.asarray(self.values[self.codes] * scales)


def share_weights(weight: np.ndarray, bits: int) -> SharedWeights:
    """Find shared values for the weights of a layer, with codes of `bits` bits or `SMALL_CHANNEL`'s.

    Zeros stay exactly zero, and a layer of few values keeps them up to rounding.

    Parameters
    ----------
    weight : numpy.ndarray
        ``(channels, ...)`` float32, finite.
    """
    rows = weight.reshape(len(weight), -1)
    count = 1 << (SHARED_BITS[1] if rows.shape[1] < SMALL_CHANNEL else bits)
    scales = np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1)).astype(np.float32)
    scales = to_half(np.where(scales > 0, scales, np.float32(1)))
    scaled = (rows / scales[:, np.newaxis]).ravel()
    nonzero = scaled[scaled != 0]
    has_zeros = len(nonzero) < len(scaled)
    values = find_values(nonzero, count - has_zeros)
    if has_zeros:
        values = np.sort(np.append(values, np.float32(0)))
    codes = np.searchsorted(_midpoints(values), scaled).astype(np.uint8)
    if has_zeros:  # another value may be as near
        codes[scaled == 0] = np.searchsorted(values, 0)
    return SharedWeights(codes.reshape(weight.shape), values, scales)


def to_half(array: np.ndarray) -> np.ndarray:
    """The float32 array rounded to float16, which files store in half of the bytes.

    Unchanged if a value is outside of float16's range, or so small that it would change by more than 1/1024.
    """
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16).astype(np.float32)
    return rounded if (np.abs(rounded - array) <= np.abs(array) / 1024).all() else array


def find_values(samples: np.ndarray, count: int) -> np.ndarray:
    """Values of at most `count` clusters by k-means; ``(clusters,)`` float32, ascending.

    Lloyd's algorithm from values evenly spaced over the range, which keep the large weights (Han et al.,
    section 3.2). On sorted samples an iteration is a binary search and a difference of sums: 20 iterations
    for a million samples and 256 values take 0.7 s, where `scipy.cluster.vq.kmeans2` and `cv2.kmeans` take
    43 and 61 s for the same result.

    Parameters
    ----------
    samples : numpy.ndarray
        ``(n,)`` float32.
    """
    distinct = np.unique(samples)
    if len(distinct) <= count:
        return distinct.astype(np.float32)
    ordered = np.sort(samples).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    values = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(ITERATIONS):
        borders = np.concatenate([[0], np.searchsorted(ordered, _midpoints(values)), [len(ordered)]])
        members = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(members, 1)
        means = np.where(members > 0, means, values)  # an empty cluster keeps its value
        if np.array_equal(means, values):
            break
        values = means
    return np.unique(values.astype(np.float32))


def _midpoints(values: np.ndarray) -> np.ndarray:
    return np.asarray((values[1:] + values[:-1]) / 2)


def code_bits(values: int) -> int:
    """Bits per code in `pack_codes` for this number of values."""
    return max(1, (values - 1).bit_length())


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Codes with the same number of bits each, the highest first."""
    return np.packbits(np.unpackbits(codes.reshape(-1, 1), axis=1)[:, 8 - bits :]).tobytes()


def unpack_codes(data: bytes, bits: int, count: int) -> np.ndarray:
    """The ``(count,)`` uint8 codes of `pack_codes`; raises ValueError if `data` has another length."""
    if len(data) != (count * bits + 7) // 8:
        raise ValueError(f"{len(data)} bytes for {count} codes of {bits} bits")
    digits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    return np.packbits(np.pad(digits, ((0, 0), (8 - bits, 0))), axis=1).ravel()


def huffman_encode(codes: np.ndarray) -> bytes:
    """Codes in a zlib stream: Huffman-coded only, or also run lengths where that is smaller.

    Run lengths (``Z_RLE``) store the zeros of a pruned layer in less than a bit each.
    """
    content = np.ascontiguousarray(codes).tobytes()
    streams = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE):
        encoder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        streams.append(encoder.compress(content) + encoder.flush())
    return min(streams, key=len)


def huffman_decode(data: bytes, count: int) -> np.ndarray:
    """The ``(count,)`` uint8 codes of `huffman_encode`.

    Raises
    ------
    ValueError
        If the stream is damaged, or holds another number of codes; it is decoded no further than `count`.
    """
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(data, count + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) != count or not decoder.eof or decoder.unused_data:
        raise ValueError(f"not a stream of {count} codes")
    return np.frombuffer(content, np.uint8)
