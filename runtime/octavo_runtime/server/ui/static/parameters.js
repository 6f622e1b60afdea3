/** The settings that a request is made with. */

import { apiKey, modelNames } from "./api.js";

const LIKELIEST = 5; // alternatives to show for each token
const NUMBERS = ["temperature", "top_p", "max_completion_tokens", "seed"];

const form = /** @type {HTMLFormElement} */ (document.getElementById("parameters"));
const models = /** @type {HTMLSelectElement} */ (field("model"));
const problem = /** @type {HTMLElement} */ (document.getElementById("models-problem"));

/** Fills the list of models, now and whenever the API key changes. */
export function keepModels() {
  field("key").value = apiKey.get();
  field("key").addEventListener("change", () => {
    apiKey.set(field("key").value.trim());
    void listModels();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  void listModels();
}

/**
 * The request's fields besides its messages; an empty field leaves the choice to the server.
 * @returns {Record<string, unknown> | null} null where a field holds no value that could be sent: it says so itself
 */
export function chosenParameters() {
  const tools = parsedTools();
  if (!form.checkValidity()) {
    form.reportValidity();
    return null;
  }
  const stop = field("stop").value.split("\n").filter((line) => line !== "");
  return {
    model: models.value,
    ...Object.fromEntries(NUMBERS.filter((name) => field(name).value).map((name) => [name, Number(field(name).value)])),
    ...(stop.length > 0 && { stop }),
    ...(tools && { tools }),
    ...(/** @type {HTMLInputElement} */ (field("logprobs")).checked && { logprobs: true, top_logprobs: LIKELIEST }),
  };
}

/** @returns {string} */
export function systemPrompt() {
  return field("system").value.trim();
}

async function listModels() {
  try {
    const names = await modelNames();
    const before = models.value;
    models.replaceChildren(...names.map((name) => new Option(name, name, false, name === before)));
    problem.hidden = true;
  } catch (error) {
    problem.textContent = /** @type {Error} */ (error).message;
    problem.hidden = false;
  }
}

function parsedTools() {
  const tools = field("tools");
  tools.setCustomValidity("");
  if (!tools.value.trim()) return null;
  try {
    return JSON.parse(tools.value);
  } catch (error) {
    tools.setCustomValidity(`No JSON: ${/** @type {Error} */ (error).message}`);
    return null;
  }
}

/** @param {string} name */
function field(name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}
