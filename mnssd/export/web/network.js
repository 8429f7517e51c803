"use strict";
// The network in ONNX Runtime Web. Scripts before this one define PAGE, MODEL and RUNTIME.

const SCRIPT_TYPE = { type: "text/javascript" };

let runtime; // the module of ONNX Runtime Web
let loading; // promise of its session

/** The session, created once. Rejects with an Error if this browser cannot run the network. */
function session() {
  loading = loading ?? createSession();
  return loading;
}

async function createSession() {
  if (typeof MODEL === "undefined") throw new Error(`${PAGE.modelFile} is missing; it belongs beside this page`);
  if (typeof RUNTIME === "undefined") throw new Error(`${PAGE.runtimeFile} is missing; it belongs beside this page`);
  const [script, wasm, model] = await Promise.all([RUNTIME.script, RUNTIME.wasm, MODEL].map(unpack));
  // Pages that are opened from a disk can neither fetch files nor import modules from it.
  const address = URL.createObjectURL(new Blob([script], SCRIPT_TYPE));
  runtime = await import(address);
  URL.revokeObjectURL(address);
  Object.assign(runtime.env.wasm, { numThreads: 1, wasmBinary: wasm });
  runtime.env.logLevel = "error";
  const created = await runtime.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  await runSession(created, new Uint8Array(PAGE.size[0] * PAGE.size[1] * 3), 1, PAGE.outputs); // the first is slow
  return created;
}

function runSession(loaded, pixels, count, names) {
  const [width, height] = PAGE.size;
  return loaded.run({ [PAGE.input]: new runtime.Tensor("uint8", pixels, [count, height, width, 3]) }, names);
}

/** Bytes of text in Base64 of a gzip stream. */
async function unpack(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  const characters = atob(text), bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** Outputs by name, {data: Float32Array, dims}, for `count` images of the network's size, RGB bytes. */
async function runNetwork(pixels, count, names) {
  return runSession(await session(), pixels, count, names);
}

/** What the network finds in an ImageBitmap, best first: {label, score, box}; of a classifier, {label, score}. */
async function findIn(bitmap) {
  const image = rgbOf(bitmap);
  const pixels = networkPixels(image, PAGE.size, PAGE.centralPart);
  const outputs = await runNetwork(pixels, 1, PAGE.outputs);
  const values = PAGE.outputs.map((name) => outputs[name].data);
  if (!values.every((each) => each.every(Number.isFinite))) {
    throw new Error("the network's outputs are not finite; its weights are damaged");
  }
  return PAGE.task === "detection" ? detections(values, image) : probabilities(values[0]);
}

/** Boxes are pixels of the image, clipped to it. */
function detections([ids, scores, boxes], image) {
  const [width, height] = PAGE.size, found = [];
  ids.forEach((label, row) => {
    if (label < 0) return;
    const box = Array.from(boxes.subarray(row * 4, row * 4 + 4), (value, edge) => {
      const [length, size] = edge % 2 ? [image.height, height] : [image.width, width];
      return Math.min(Math.max((value * length) / size, 0), length - 1);
    });
    found.push({ label, score: scores[row], box });
  });
  return found;
}

function probabilities(values) {
  return Array.from(values, (score, label) => ({ label, score })).sort((a, b) => b.score - a.score);
}
