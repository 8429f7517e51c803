"use strict";
// The network's input, as mnssd computes it with OpenCV. Images are {width, height, data}: RGB bytes, row by row.

const FACTORS = [8, 4, 2, 1];
const COEFFICIENT = 2048; // OpenCV's bilinear weights have 11 bits

/** The network's input of `size` = [width, height]; `centralPart` of each side for a classifier, else null. */
function networkPixels(image, size, centralPart) {
  const factor = FACTORS.find(
    (each) => each === 1 || (Math.ceil(image.width / each) >= size[0] && Math.ceil(image.height / each) >= size[1]),
  );
  const reduced = factor === 1 ? image : reduce(image, factor);
  if (centralPart === null) return resizeLinear(reduced, ...size).data;
  const part = crop(reduced, centralPart);
  const shrinks = part.width >= size[0] && part.height >= size[1];
  return (shrinks ? resizeArea : resizeLinear)(part, ...size).data;
}

/** Round as Python and OpenCV do: halves to the even neighbor. */
function roundEven(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** The central part of each side; see val_transform in mnssd. */
function crop(image, part) {
  const left = roundEven((image.width * (1 - part)) / 2), top = roundEven((image.height * (1 - part)) / 2);
  const width = image.width - 2 * left, height = image.height - 2 * top;
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((y + top) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + width * 3), y * width * 3);
  }
  return { width, height, data };
}

/** Averages of factor x factor pixels; the last row and column are repeated where some are missing. */
function reduce(image, factor) {
  const width = Math.ceil(image.width / factor), height = Math.ceil(image.height / factor);
  const data = new Uint8Array(width * height * 3);
  const sums = new Uint32Array(width * 3);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let row = 0; row < factor; row++) {
      const start = Math.min(y * factor + row, image.height - 1) * image.width * 3;
      const end = start + (image.width - 1) * 3;
      for (let x = 0, from = start; x < width * 3; x += 3) {
        for (let column = 0; column < factor; column++, from += 3) {
          const pixel = Math.min(from, end);
          sums[x] += image.data[pixel];
          sums[x + 1] += image.data[pixel + 1];
          sums[x + 2] += image.data[pixel + 2];
        }
      }
    }
    for (let i = 0; i < sums.length; i++) {
      // OpenCV rounds halves up for 2 x 2 pixels, and to even otherwise.
      data[y * width * 3 + i] = factor === 2 ? (sums[i] + 2) >> 2 : roundEven(sums[i] / (factor * factor));
    }
  }
  return { width, height, data };
}

/** Bilinear, in the integers of OpenCV's INTER_LINEAR: pixel centers at halves, no smoothing. */
function resizeLinear(image, width, height) {
  if (image.width === width && image.height === height) return image;
  const columns = linearWeights(image.width, width, true), rows = linearWeights(image.height, height, false);
  const length = width * 3;
  const data = new Uint8Array(length * height);
  const blend = (y) => {
    const line = new Int32Array(length), start = y * image.width * 3;
    for (let x = 0; x < width; x++) {
      const { first, second, weights } = columns[x];
      for (let channel = 0; channel < 3; channel++) {
        line[x * 3 + channel] =
          image.data[start + first * 3 + channel] * weights[0] + image.data[start + second * 3 + channel] * weights[1];
      }
    }
    return line;
  };
  const lines = new Map();
  for (let y = 0; y < height; y++) {
    const { first, second, weights } = rows[y];
    for (const old of lines.keys()) if (old < first) lines.delete(old);
    for (const each of [first, second]) if (!lines.has(each)) lines.set(each, blend(each));
    const above = lines.get(first), below = lines.get(second);
    for (let i = 0; i < length; i++) {
      const sum = ((weights[0] * (above[i] >> 4)) >> 16) + ((weights[1] * (below[i] >> 4)) >> 16);
      data[y * length + i] = (sum + 2) >> 2;
    }
  }
  return { width, height, data };
}

/** For each position of the result: two neighbors in the source, and their weights. */
function linearWeights(from, to, isColumns) {
  const inside = (place) => Math.min(Math.max(place, 0), from - 1);
  return Array.from({ length: to }, (_, index) => {
    const place = Math.fround((index + 0.5) * (from / to) - 0.5), floor = Math.floor(place);
    // Beyond the edge both neighbors are the same. OpenCV gives one all the weight in columns, not in rows.
    const isBeyond = isColumns && (floor < 0 || floor >= from - 1);
    const rest = isBeyond ? 0 : Math.fround(place - floor);
    const weights = [roundEven(Math.fround(1 - rest) * COEFFICIENT), roundEven(rest * COEFFICIENT)];
    return { first: inside(floor), second: inside(floor + 1), weights };
  });
}

/** Averages of areas, as OpenCV's INTER_AREA, where both sides shrink. */
function resizeArea(image, width, height) {
  const factor = image.width / width;
  if (Number.isInteger(factor) && factor === image.height / height) return factor === 1 ? image : reduce(image, factor);
  const columns = areaWeights(image.width, width), rows = areaWeights(image.height, height);
  const length = width * 3;
  const data = new Uint8Array(length * height);
  const line = new Float32Array(length), sums = new Float32Array(length);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (const [row, rowWeight] of rows[y]) {
      line.fill(0);
      for (let x = 0; x < width; x++) {
        for (const [column, weight] of columns[x]) {
          const from = (row * image.width + column) * 3;
          for (let channel = 0; channel < 3; channel++) line[x * 3 + channel] += image.data[from + channel] * weight;
        }
      }
      for (let i = 0; i < length; i++) sums[i] += line[i] * rowWeight;
    }
    for (let i = 0; i < length; i++) data[y * length + i] = Math.min(roundEven(sums[i]), 255);
  }
  return { width, height, data };
}

/** For each position of the result: positions in the source and the shares that they have in it. */
function areaWeights(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, index) => {
    const start = index * scale, end = start + scale, size = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1), first = Math.min(Math.ceil(start), last);
    const shares = [];
    if (first - start > 1e-3) shares.push([first - 1, Math.fround((first - start) / size)]);
    for (let each = first; each < last; each++) shares.push([each, Math.fround(1 / size)]);
    if (end - last > 1e-3) shares.push([last, Math.fround(Math.min(end - last, 1, size) / size)]);
    return shares;
  });
}
