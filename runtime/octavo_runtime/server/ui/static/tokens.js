/** Tokens in the text of an answer, each with its probability and the alternatives that the model weighed. */

/** @typedef {import("./answer.js").Token} Token */

const tooltip = /** @type {HTMLElement} */ (document.getElementById("alternatives"));
/** @type {WeakMap<Element, Token>} */
const tokenOf = new WeakMap();

/**
 * Puts an answer's text into nodes, a span for each token.
 * @param {string} text
 * @param {Token[]} tokens in order, without gaps; may cover less than the text, or nothing
 * @returns {import("./markdown.js").Put}
 */
export function tokenPut(text, tokens) {
  let next = 0;
  return (parent, from, to) => {
    let done = from;
    while (next < tokens.length && tokens[next].end <= from) next++;
    for (let index = next; index < tokens.length && tokens[index].start < to; index++) {
      const end = Math.min(tokens[index].end, to);
      if (end > done) parent.appendChild(span(tokens[index], text.slice(done, end)));
      done = Math.max(done, end);
    }
    if (done < to) parent.appendChild(document.createTextNode(text.slice(done, to)));
  };
}

/**
 * @param {Token} token
 * @param {string} text
 */
function span(token, text) {
  const made = document.createElement("span");
  made.className = `token p${Math.min(Math.floor(Math.exp(token.logprob) * 5), 4)}`;
  made.textContent = text;
  tokenOf.set(made, token);
  return made;
}

/**
 * Shows a token's alternatives under the pointer, or where the keyboard is: Tab reaches the first token of an answer,
 * the arrow keys go on from there.
 * @param {HTMLElement} log that holds the answers
 */
export function explainTokens(log) {
  log.addEventListener("mouseover", (event) => show(event.target));
  log.addEventListener("focusin", (event) => show(event.target));
  log.addEventListener("mouseleave", hide);
  log.addEventListener("focusout", hide);
  log.addEventListener("scroll", hide);
  log.addEventListener("keydown", (event) => {
    if (!(event.target instanceof HTMLElement) || !tokenOf.has(event.target)) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    const all = [.../** @type {HTMLElement} */ (event.target.closest(".text")).querySelectorAll(".token")];
    const to = /** @type {HTMLElement | undefined} */ (all[all.indexOf(event.target) + step]);
    if (to === undefined) return;
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
}

/**
 * Lets the keyboard reach the tokens of a finished answer.
 * @param {HTMLElement} text
 */
export function makeReachable(text) {
  text.querySelectorAll(".token").forEach((token, index) => token.setAttribute("tabindex", index === 0 ? "0" : "-1"));
}

function hide() {
  tooltip.hidden = true;
}

/** @param {EventTarget | null} target */
function show(target) {
  const token = target instanceof HTMLElement ? tokenOf.get(target) : undefined;
  if (token === undefined) return hide();
  const place = /** @type {HTMLElement} */ (target);
  tooltip.replaceChildren(table(token));
  tooltip.hidden = false;
  place.setAttribute("aria-describedby", tooltip.id);
  const { left, top, bottom } = place.getBoundingClientRect();
  const { width, height } = tooltip.getBoundingClientRect();
  tooltip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tooltip.style.top = `${bottom + height + 8 < innerHeight ? bottom + 6 : top - height - 6}px`;
}

/** @param {Token} token */
function table(token) {
  const made = document.createElement("table");
  const rows = [...token.alternatives];
  // Sampling may take a token that is not among the likeliest: its own row then comes last.
  let chosen = rows.findIndex((row) => row.token === token.token && row.logprob === token.logprob);
  if (chosen < 0) chosen = rows.push(token) - 1;
  rows.forEach((row, index) => {
    const line = made.insertRow();
    line.className = index === chosen ? "chosen" : "";
    const meter = document.createElement("meter");
    meter.value = Math.exp(row.logprob);
    line.insertCell().append(visible(row.token));
    line.insertCell().append(meter);
    line.insertCell().append(percent(meter.value));
  });
  return made;
}

/** @param {string} text */
function visible(text) {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}

/** @param {number} share */
function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`;
}
