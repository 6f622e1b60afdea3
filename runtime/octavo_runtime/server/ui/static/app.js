/** The page put together: what the keys and buttons do. */

import { startChat } from "./chat.js";
import { keepFigures } from "./figures.js";
import { keepModels } from "./parameters.js";
import { explainTokens } from "./tokens.js";

const prompt = /** @type {HTMLTextAreaElement} */ (byId("prompt"));
const panelToggle = byId("panel-toggle");
const composer = /** @type {HTMLFormElement} */ (byId("composer"));

const chat = startChat(byId("log"), (answering) => {
  const stopFocused = document.activeElement === byId("stop");
  byId("send").hidden = answering;
  byId("stop").hidden = !answering;
  if (stopFocused) prompt.focus();
});

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (prompt.value.trim() && chat.ask(prompt.value)) prompt.value = "";
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") chat.stop();
});
byId("stop").addEventListener("click", chat.stop);
byId("clear").addEventListener("click", () => {
  chat.clear();
  prompt.focus();
});
panelToggle.addEventListener("click", () => openPanel(panelToggle.ariaExpanded !== "true"));
byId("panel").addEventListener("invalid", showSetting, { capture: true });

explainTokens(byId("log"));
keepModels();
keepFigures(/** @type {HTMLDetailsElement} */ (byId("figures")));

/** @param {boolean} open only matters where the window is too narrow for chat and panel side by side */
function openPanel(open) {
  panelToggle.ariaExpanded = String(open);
  byId("panel").classList.toggle("open", open);
}

/**
 * Unfolds what a setting that holds nothing to send is hidden in: it must be seen to be mended.
 * @param {Event} event
 */
function showSetting({ target }) {
  openPanel(true);
  const fold = /** @type {HTMLElement} */ (target).closest("details");
  if (fold) fold.open = true;
}

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}
