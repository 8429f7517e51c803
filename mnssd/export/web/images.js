"use strict";
// Image files, read as mnssd reads them: the stored colors, turned as the EXIF orientation says.

const MOST_PIXELS = 178956970; // mnssd.data.image.MAX_PIXELS

const STARTS = { jpeg: "\xff\xd8", png: "\x89PNG", gif: "GIF8", webp: "RIFF" };

class ImageProblem extends Error {}

/** An image file as an ImageBitmap. */
async function openImage(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isKind = (kind) => textAt(bytes, 0, STARTS[kind].length) === STARTS[kind];
  if (bytes.length === 0) throw new ImageProblem("the file is empty");
  if ((isKind("jpeg") && !jpegEnds(bytes)) || (isKind("png") && !pngChunks(bytes).has("IEND"))) {
    throw new ImageProblem("the file is truncated or damaged: its end is missing"); // browsers show a part
  }
  // Browsers turn JPEG and AVIF files, but only some PNG and WebP files; these get no EXIF block to see.
  const exif = isKind("png") ? pngChunks(bytes).get("eXIf") : isKind("webp") ? webpChunk(bytes, "EXIF") : null;
  const orientation = exif ? exifOrientation(exif) : 1;
  exif?.fill(0);
  const bitmap = await decode(exif ? new Blob([bytes]) : file);
  if (isKind("gif") && isTransparent(rgbaOf(bitmap))) {
    throw new ImageProblem("browsers drop the colors of transparent pixels of GIF files. Convert it to PNG");
  }
  return orientation === 1 ? bitmap : toBitmap(turn(rgbOf(bitmap), orientation));
}

async function decode(file) {
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };
  try {
    return await createImageBitmap(file, options);
  } catch {
    throw new ImageProblem("not an image that this browser reads, or damaged. Convert it to JPEG or PNG");
  }
}

function toBitmap({ width, height, data }) {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    for (let channel = 0; channel < 3; channel++) rgba[to + channel] = data[from + channel];
  }
  return createImageBitmap(new ImageData(rgba, width, height));
}

function textAt(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

/** Whether the end marker follows the segments; thumbnails in segments have end markers of their own. */
function jpegEnds(bytes) {
  let place = 2;
  while (place + 1 < bytes.length) {
    const marker = bytes[place + 1];
    if (bytes[place] !== 0xff || marker === 0xff || marker === 0x00) place += 1;
    else if (marker === 0xd9) return true;
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) place += 2;
    else place += 2 + (bytes[place + 2] << 8) + bytes[place + 3];
  }
  return false;
}

/** Contents of the chunks of a PNG file by type, the first of each. */
function pngChunks(bytes) {
  const view = new DataView(bytes.buffer), chunks = new Map();
  for (let place = 8, length; place + 12 <= bytes.length; place += 12 + length) {
    length = view.getUint32(place);
    const type = textAt(bytes, place + 4, 4);
    if (!chunks.has(type)) chunks.set(type, bytes.subarray(place + 8, place + 8 + length));
  }
  return chunks;
}

/** Content of a chunk of a WebP file, or null. */
function webpChunk(bytes, type) {
  const view = new DataView(bytes.buffer);
  for (let place = 12, length; place + 8 <= bytes.length; place += 8 + length + (length % 2)) {
    length = view.getUint32(place + 4, true);
    if (textAt(bytes, place, 4) === type) return bytes.subarray(place + 8, place + 8 + length);
  }
  return null;
}

/** EXIF orientation, 1 to 8 (TIFF 6.0, tag 274); 1, upright, if it is missing. */
function exifOrientation(exif) {
  const block = textAt(exif, 0, 6) === "Exif\0\0" ? exif.subarray(6) : exif;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength), order = textAt(block, 0, 2);
  if (order !== "II" && order !== "MM") return 1;
  const isLittle = order === "II";
  try {
    const directory = view.getUint32(4, isLittle), count = view.getUint16(directory, isLittle);
    for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
      const value = view.getUint16(entry + 8, isLittle);
      const isOrientation = view.getUint16(entry, isLittle) === 274 && view.getUint16(entry + 2, isLittle) === 3;
      if (isOrientation) return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a truncated directory
  }
  return 1;
}

/** Pixels as displayed. */
function turn(image, orientation) {
  const isTransposed = orientation >= 5;
  const [width, height] = isTransposed ? [image.height, image.width] : [image.width, image.height];
  const mirrorsX = [2, 3, 6, 7].includes(orientation), mirrorsY = [3, 4, 7, 8].includes(orientation);
  const data = new Uint8Array(image.data.length);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const column = mirrorsX ? width - 1 - x : x, row = mirrorsY ? height - 1 - y : y;
      const from = (isTransposed ? column * image.width + row : row * image.width + column) * 3;
      data.set(image.data.subarray(from, from + 3), to);
    }
  }
  return { width, height, data };
}

/** The RGB bytes of an ImageBitmap, {width, height, data}. Transparency is dropped, colors under it are kept. */
function rgbOf(bitmap) {
  const rgba = rgbaOf(bitmap);
  return {
    width: bitmap.width,
    height: bitmap.height,
    // A canvas multiplies colors by alpha.
    data: withoutAlpha(isTransparent(rgba) ? storedColors(bitmap) : rgba),
  };
}

function rgbaOf(bitmap) {
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new ImageProblem(`too large: ${width} x ${height} pixels`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  try {
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  } catch {
    throw new ImageProblem(`too large for this browser: ${width} x ${height} pixels`);
  }
}

function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}

/** RGBA that is not multiplied by alpha, which only WebGL returns. */
function storedColors(bitmap) {
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const gl = canvas.getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new ImageProblem("this browser cannot read an image with transparency of this size; save it without");
  }
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const rgba = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  const problem = gl.getError();
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  if (problem) throw new ImageProblem("this browser cannot read the colors of this image");
  return rgba;
}
