/** All pictures that the page has drawn in one: a row a list, with its name above. */

const TILE = 128, // pixels of a picture at least; a small one is enlarged by a whole factor
  GAP = 8,
  LINE = 28;

/**
 * @param rows [name, canvases] each; those without pictures are left out
 * @returns {HTMLCanvasElement}
 */
export function sheetOf(rows) {
  const shown = rows.filter(([, pictures]) => pictures.length);
  const side = shown[0][1][0].width,
    tile = side * Math.ceil(TILE / side),
    most = Math.max(...shown.map(([, pictures]) => pictures.length));
  const sheet = Object.assign(document.createElement('canvas'), {
    width: GAP + most * (tile + GAP),
    height: shown.length * (LINE + tile + GAP),
  });
  const pen = sheet.getContext('2d');
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.fillStyle = 'black';
  pen.font = '15px sans-serif';
  pen.textBaseline = 'middle';
  pen.imageSmoothingEnabled = false;
  shown.forEach(([name, pictures], row) => {
    const top = row * (LINE + tile + GAP);
    pen.fillText(name, GAP, top + LINE / 2, sheet.width - 2 * GAP);
    pictures.forEach((picture, i) => pen.drawImage(picture, GAP + i * (tile + GAP), top + LINE, tile, tile));
  });
  return sheet;
}
