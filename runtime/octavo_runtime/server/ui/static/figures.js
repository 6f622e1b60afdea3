/** The server's live figures, read from its metrics while somebody looks. */

import { metricsText } from "./api.js";
import { parseMetrics, quantile, rate } from "./metrics.js";
import { drawSparkline, sparkline } from "./sparkline.js";

/** @typedef {import("./metrics.js").Sample} Sample */

const PERIOD = 2000; // milliseconds
const KEPT = 31; // samples: a minute

/**
 * @typedef {object} Figure a line of the panel. `read`: what it shows, and what its sparkline draws, where that can be
 *     told; `last` is the sample before `now`, `first` that of a minute ago.
 * @property {string} name
 * @property {(now: Sample, last: Sample, first: Sample) => [string, number] | null} read
 */

/** @type {Figure[]} */
const FIGURES = [
  gauge("Running", "octavo_requests_running", String),
  gauge("Waiting", "octavo_requests_waiting", String),
  gauge("KV cache", "octavo_kv_cache_usage_ratio", (share) => `${(share * 100).toFixed(1)} %`),
  counter("Tokens/s", "octavo_generation_tokens_total"),
  histogram("First token", "octavo_time_to_first_token_seconds"),
  histogram("Between tokens", "octavo_inter_token_latency_seconds"),
  histogram("Request", "octavo_request_duration_seconds"),
];

/**
 * Fills the panel every 2 s, except while it is folded, out of sight, or the page is.
 * @param {HTMLDetailsElement} panel with a list <dl> to fill
 */
export function keepFigures(panel) {
  const list = /** @type {HTMLElement} */ (panel.querySelector("dl"));
  const problem = /** @type {HTMLElement} */ (document.getElementById("figures-problem"));
  const lines = FIGURES.map((figure) => line(list, figure));
  /** @type {Sample[]} */
  let samples = [];
  let reading = false;

  async function read() {
    if (reading || document.hidden || !list.checkVisibility()) return;
    reading = true;
    try {
      samples = [...samples, parseMetrics(await metricsText(), performance.now() / 1000)].slice(-KEPT);
      problem.hidden = true;
      for (const show of lines) show(samples);
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
      problem.hidden = false;
    }
    reading = false;
  }

  setInterval(read, PERIOD);
  document.addEventListener("visibilitychange", read);
  panel.addEventListener("toggle", read);
}

/**
 * @param {HTMLElement} list
 * @param {Figure} figure
 * @returns {(samples: Sample[]) => void} shows the last sample
 */
function line(list, figure) {
  const [name, value] = [document.createElement("dt"), document.createElement("dd")];
  const [text, picture] = [document.createElement("span"), sparkline()];
  name.textContent = figure.name;
  value.append(picture, text);
  list.append(name, value);
  /** @type {(number | null)[]} */
  let drawn = [];
  return (samples) => {
    const now = /** @type {Sample} */ (samples.at(-1));
    const got = figure.read(now, samples.at(-2) ?? now, samples[0]);
    text.textContent = got?.[0] ?? "–";
    drawn = [...drawn, got?.[1] ?? null].slice(-KEPT);
    drawSparkline(picture, drawn, KEPT);
  };
}

/**
 * @param {string} name
 * @param {string} metric
 * @param {(value: number) => string} format
 * @returns {Figure}
 */
function gauge(name, metric, format) {
  return {
    name,
    read(now) {
      const value = now.values.get(metric);
      return value === undefined ? null : [format(value), value];
    },
  };
}

/**
 * @param {string} name
 * @param {string} metric
 * @returns {Figure}
 */
function counter(name, metric) {
  return {
    name,
    read(now, last) {
      const value = rate(last, now, metric);
      return value === null ? null : [value.toFixed(value < 10 ? 1 : 0), value];
    },
  };
}

/**
 * @param {string} name
 * @param {string} metric in seconds
 * @returns {Figure}
 */
function histogram(name, metric) {
  return {
    name,
    read(now, _last, first) {
      const [half, most] = [quantile(first, now, metric, 0.5), quantile(first, now, metric, 0.99)];
      return half === null || most === null ? null : [`${time(half)} · ${time(most)}`, most];
    },
  };
}

/** @param {number} seconds */
function time(seconds) {
  if (seconds >= 10) return `${seconds.toFixed(0)} s`;
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const milliseconds = seconds * 1000;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}
