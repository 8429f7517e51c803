"use strict";
// The controls of the page, and the drawing of results.

const element = (id) => document.getElementById(id);
const slider = element("score"); // of detectors only
const TOP = 5; // classes that are listed for a classifier
const LONGEST = 1280; // pixels of the drawing's longer side

let shown = null; // {bitmap, found, milliseconds} of the present image
let stream = null; // of the camera, while it runs
let request = 0; // number of the last image that was asked for; results of earlier ones are dropped

function say(text) {
  if (element("status").textContent !== text) element("status").textContent = text; // else it is read out again
}

function showError(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

async function openFiles(files) {
  if (!files.length) return;
  stopCamera();
  const [file] = files, own = ++request;
  showError("");
  say(`Reading ${file.name}.`);
  try {
    await detect(await openImage(file), own);
    if (own === request && files.length > 1) showError(`Only the first of ${files.length} files is shown: ${file.name}`);
  } catch (error) {
    if (own === request) fail(`${file.name}: ${error.message}`);
  }
}

function fail(text) {
  say("");
  showError(text);
  element("results").hidden = true;
  shown?.bitmap.close();
  shown = null;
}

/** Run the network and show what it finds, unless another image was asked for meanwhile. */
async function detect(bitmap, own) {
  await session();
  const start = performance.now();
  const found = await findIn(bitmap);
  const milliseconds = performance.now() - start;
  if (own !== request) return bitmap.close();
  shown?.bitmap.close();
  shown = { bitmap, found, milliseconds };
  return show();
}

/** Results above the threshold, or the best classes. */
function chosen() {
  return slider ? shown.found.filter(({ score }) => score >= Number(slider.value)) : shown.found.slice(0, TOP);
}

function show() {
  if (!shown) return;
  element("results").hidden = false;
  const results = chosen(), time = `${shown.milliseconds.toFixed(0)} ms`;
  const noun = results.length === 1 ? "detection" : "detections";
  say(slider ? `${results.length} ${noun} in ${time}.` : `Classified in ${time}.`);
  const texts = results.map(({ label, score }) => `${PAGE.classes[label]} ${score.toFixed(2)}`);
  element("image").setAttribute("aria-label", `Image with ${texts.join(", ") || "no detections"}`);
  element("rows").replaceChildren(...results.map(row));
  draw(results, texts);
}

function row({ label, score, box }) {
  const line = document.createElement("tr"), head = document.createElement("th");
  head.scope = "row";
  head.textContent = PAGE.classes[label];
  line.append(head);
  for (const text of [score.toFixed(3), ...(box ? box.map((value) => value.toFixed(0)) : [])]) {
    line.insertCell().textContent = text;
  }
  return line;
}

function draw(results, texts) {
  const canvas = element("image"), context = canvas.getContext("2d");
  const { width, height } = shown.bitmap, longer = Math.max(width, height);
  const scale = Math.min(LONGEST / longer, Math.max(1, LONGEST / 2 / longer));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  context.drawImage(shown.bitmap, 0, 0, canvas.width, canvas.height);
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // canvas pixels per pixel of the screen
  const boxes = results.filter(({ box }) => box).map((each, index) => ({ ...each, text: texts[index] }));
  const labels = placeLabels(context, boxes, scale, unit);
  // The best ones are drawn last, over the others.
  for (const each of boxes.reverse()) drawBox(context, each, scale, unit);
  for (const each of labels.reverse()) drawLabel(context, each, unit);
}

/** Steps of the golden section around the color circle: neighboring classes differ, and colors do not repeat. */
function colorOf(label) {
  return `hsl(${((0.36 + label * 0.618034) % 1) * 360} 85% 42%)`;
}

/** Corners on the canvas. The last row and column belong to a box. */
function cornersOf(box, scale) {
  return box.map((value, edge) => (value + (edge > 1 ? 1 : 0)) * scale);
}

function drawBox(context, { label, box }, scale, unit) {
  const [left, top, right, bottom] = cornersOf(box, scale);
  context.lineWidth = 2.5 * unit;
  context.strokeStyle = colorOf(label);
  context.strokeRect(left, top, right - left, bottom - top);
}

/** Labels {text, label, x, y, width, height} above, below or in their boxes, where there is room for them. */
function placeLabels(context, boxes, scale, unit) {
  const size = 14 * unit, margin = 3 * unit, height = size + 2 * margin, canvas = context.canvas;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const placed = [];
  for (const { label, box, text } of boxes) {
    const [left, top, , bottom] = cornersOf(box, scale);
    const width = context.measureText(text).width + 2 * margin;
    const x = Math.max(0, Math.min(left, canvas.width - width));
    const isFree = (y) =>
      y >= 0 && y + height <= canvas.height &&
      placed.every((other) => x >= other.x + other.width || other.x >= x + width || Math.abs(y - other.y) >= height);
    const y = [top - height, bottom, top, bottom - height].find(isFree) ?? Math.max(0, top - height);
    placed.push({ text, label, x, y, width, height });
  }
  return placed;
}

function drawLabel(context, { text, label, x, y, width, height }, unit) {
  context.fillStyle = colorOf(label);
  context.fillRect(x, y, width, height);
  context.lineWidth = 2 * unit; // black outlines keep white text readable on light colors
  context.lineJoin = "round";
  context.strokeStyle = "#000";
  context.strokeText(text, x + 3 * unit, y + height - 5.5 * unit);
  context.fillStyle = "#fff";
  context.fillText(text, x + 3 * unit, y + height - 5.5 * unit);
}

async function startCamera() {
  const own = ++request;
  showError("");
  say("Waiting for the camera.");
  try {
    const opened = await openCamera();
    if (own !== request) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    setCamera(true);
    await detectFrames(own);
  } catch (error) {
    if (own !== request) return; // something else is shown by now
    stopCamera();
    fail(`Camera: ${error.message}`);
  }
}

function openCamera() {
  const devices = navigator.mediaDevices;
  if (!devices) throw new Error("browsers allow it on https, localhost and files of this device only");
  return devices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
}

async function detectFrames(own) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
  stream.getVideoTracks()[0].addEventListener("ended", () => stopCamera("The camera has stopped."));
  await video.play();
  while (own === request) {
    await detect(await createImageBitmap(video), own);
    await new Promise(requestAnimationFrame);
  }
}

/** The last frame stays on the page. */
function stopCamera(text) {
  if (!stream) return;
  request += 1;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  setCamera(false);
  if (text) say(text);
}

function setCamera(runs) {
  element("camera").textContent = runs ? "Stop the camera" : "Use the camera";
  element("camera").setAttribute("aria-pressed", String(runs));
  element("status").setAttribute("aria-live", runs ? "off" : "polite"); // not read out for every frame
}

element("file").addEventListener("change", async ({ target }) => {
  await openFiles([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});
element("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
slider?.addEventListener("input", () => {
  element("score-value").textContent = Number(slider.value).toFixed(2);
  show();
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // else the browser would open the file
    element("drop").classList.toggle("over", type === "dragover");
    if (type !== "drop") return;
    if (event.dataTransfer.files.length) openFiles([...event.dataTransfer.files]);
    else showError("This is not a file. Save the image, and drop the file.");
  });
}
window.addEventListener("resize", show);
openFiles([...element("file").files]); // chosen while the page was loading
session().then(
  () => request || say("Ready."),
  (error) => fail(`The network cannot run here: ${error.message}`),
);
