/** A small line of how a figure went. */

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [100, 24];

/** @returns {SVGSVGElement} an empty one, without a meaning of its own: the figure stands beside it */
export function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 -1 ${WIDTH} ${HEIGHT + 2}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  return svg;
}

/**
 * Draws values from left (oldest) to right (now); null leaves a gap.
 * @param {SVGSVGElement} svg
 * @param {(number | null)[]} values
 * @param {number} places from left to right; fewer values leave the left empty
 */
export function drawSparkline(svg, values, places) {
  const top = Math.max(...values.map((value) => value ?? 0)) || 1;
  let line = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = ((places - values.length + index) / (places - 1)) * WIDTH;
    const y = HEIGHT - (value / top) * HEIGHT;
    line += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  svg.firstElementChild?.setAttribute("d", line);
}
