// A volume in three planes, each with a slider through its slices.

// Of a volume [row, column, slice] upright: which axis is cut, and which axes run right and up (reversed: down).
const PLANES = [
  { name: "Axial", cut: 2, across: 1, along: 0, up: false, words: "front up, the patient's left on the right" },
  { name: "Coronal", cut: 0, across: 1, along: 2, up: true, words: "head up, the patient's left on the right" },
  { name: "Sagittal", cut: 1, across: 0, along: 2, up: true, words: "head up, back on the right" },
];

// The pixels of a picture, once the browser has decoded it.
async function pixelsOf(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = make("canvas", { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

// Where the voxel [row, column, slice] is in the picture of all slices.
function offset(volume, picture, voxel) {
  const [height, width] = volume.size;
  const x = (voxel[2] % volume.columns) * width + voxel[1];
  const y = Math.floor(voxel[2] / volume.columns) * height + voxel[0];
  return 4 * (y * picture.width + x);
}

function drawPlane(canvas, volume, picture, plane, place, colour) {
  const [width, height] = [canvas.width, canvas.height];
  const drawn = new ImageData(width, height);
  const voxel = [0, 0, 0];
  voxel[plane.cut] = place;
  for (let y = 0; y < height; y += 1) {
    voxel[plane.along] = plane.up ? height - 1 - y : y;
    for (let x = 0; x < width; x += 1) {
      voxel[plane.across] = x;
      colour(picture.data, offset(volume, picture, voxel), drawn.data, 4 * (y * width + x));
    }
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
}

function copyColour(from, i, to, j) {
  to[j] = from[i];
  to[j + 1] = from[i + 1];
  to[j + 2] = from[i + 2];
  to[j + 3] = 255;
}

// Grey level 128 is no difference; above, the first colour, below, the second.
function mapColour(colours) {
  const parts = colours.map((text) => [1, 3, 5].map((n) => parseInt(text.slice(n, n + 2), 16)));
  return (from, i, to, j) => {
    const value = (from[i] - 128) / 127;
    const colour = parts[value > 0 ? 0 : 1];
    for (let n = 0; n < 3; n += 1) to[j + n] = colour[n];
    to[j + 3] = Math.round(255 * Math.min(1, Math.abs(value)));
  };
}

// One plane; what it shows is drawn when the pictures have been read.
function planeView(row, volume, plane, pictures) {
  const [width, height] = [volume.size[plane.across], volume.size[plane.along]];
  const shape = `${width * volume.voxelSize[plane.across]} / ${height * volume.voxelSize[plane.along]}`;
  const layer = (words) => make("canvas", { width, height, role: "img", "aria-label": words });
  const image = layer(`${plane.name} slice of ${row.key}`);
  const map = volume.map ? layer(`Decision map on the ${plane.name.toLowerCase()} slice`) : null;
  const count = volume.size[plane.cut];
  const input = make("input", { type: "range", min: 1, max: count, step: 1, value: volume.at[plane.cut] + 1 });
  const shown = make("output", {});
  const paint = () => {
    const place = Number(input.value) - 1;
    shown.textContent = `${place + 1} of ${count}`;
    pictures.then(([ground, over]) => {
      if (Number(input.value) - 1 !== place) return;
      drawPlane(image, volume, ground, plane, place, copyColour);
      if (map) drawPlane(map, volume, over, plane, place, mapColour(volume.colours));
    });
  };
  input.addEventListener("input", paint);
  paint();
  const layers = make("div", { class: "layers", style: `aspect-ratio:${shape}` }, image, map);
  const figure = make("figure", { class: "film" }, layers,
    make("figcaption", {}, make("b", {}, plane.name), `: ${plane.words}`),
    make("div", { class: "controls" }, make("label", {}, "Slice ", input, " ", shown)));
  return { figure, map };
}

function volumeAndMap(about, row, content) {
  const { volume } = content;
  const pictures = Promise.all([volume.image, volume.map].map((source) => (source ? pixelsOf(source) : null)));
  const views = PLANES.map((plane) => planeView(row, volume, plane, pictures));
  const films = make("div", { class: "films three" }, ...views.map(({ figure }) => figure));
  const notes = volume.reducedFrom
    ? [make("p", { class: "muted" }, `Shown with ${volume.size.join(" x ")} voxels, of ${volume.reducedFrom.join(" x ")}.`)] : [];
  if (!volume.map) return make("div", {}, films, ...notes);
  const maps = views.map(({ map }) => map);
  const words = make("p", {}, "Colours show where it speaks for ", className(about, row.predicted), " or for ", rivalName(about, content),
    ". The planes open where the map is strongest.");
  return make("div", {}, words, films, mapControls(about, content, (opacity) => maps.forEach((map) => { map.style.opacity = opacity; })), ...notes);
}
