/** One message of the conversation as a person sees it. */

import { markdown } from "./markdown.js";
import { makeReachable, tokenPut } from "./tokens.js";

/** @typedef {import("./conversation.js").Message} Message */
/** @typedef {import("./answer.js").Answer} Answer */
/**
 * @typedef {object} Actions what the buttons of a message do
 * @property {(content: string) => void} edit put other words in its place, and ask again
 * @property {() => void} regenerate answer anew
 * @property {(results: import("./conversation.js").ToolResult[]) => void} giveResults answer its tool calls
 */

/**
 * @param {Message} message
 * @param {Actions} actions
 * @returns {HTMLElement}
 */
export function messageView(message, actions) {
  const view = element("article", message.role);
  if (message.role === "assistant") {
    showAnswer(view, message, actions);
    return view;
  }
  view.setAttribute("aria-label", message.role === "user" ? "You" : "Tool result");
  view.append(element("div", "text plain", message.content));
  if (message.role === "user") {
    view.append(toolbar(["Edit", () => edit(view, message.content, actions)], ...copy(message.content)));
  }
  return view;
}

/**
 * @param {HTMLElement} view
 * @param {Answer} answer
 * @param {Actions | null} actions null while it grows
 */
export function showAnswer(view, answer, actions) {
  const unfolded = view.querySelector("details")?.open ?? false;
  view.className = "assistant";
  view.setAttribute("aria-label", "Answer");
  view.replaceChildren();
  if (answer.reasoning) view.append(reasoningView(answer.reasoning, unfolded));
  if (answer.content) {
    const text = view.appendChild(element("div", "text"));
    text.append(markdown(answer.content, tokenPut(answer.content, answer.tokens)));
    if (actions) makeReachable(text);
  }
  view.append(...answer.toolCalls.map(callView));
  if (actions === null) {
    view.append(element("p", "waiting", "…"));
    return;
  }
  if (answer.toolCalls.length > 0 && answer.error === null) view.append(resultsForm(answer, actions));
  if (answer.error !== null) view.append(element("p", "problem", answer.error));
  const bar = view.appendChild(toolbar(["Regenerate", actions.regenerate], ...copy(answer.content)));
  bar.append(element("span", "facts", facts(answer)));
}

/**
 * @param {string} reasoning
 * @param {boolean} unfolded
 */
function reasoningView(reasoning, unfolded) {
  const view = /** @type {HTMLDetailsElement} */ (element("details", "reasoning"));
  view.open = unfolded;
  view.append(element("summary", "", "Reasoning"), element("div", "plain", reasoning.trim()));
  return view;
}

/** @param {import("./answer.js").ToolCall} call */
function callView(call) {
  const view = element("div", "call");
  view.appendChild(element("p", "", "Calls ")).append(element("code", "", call.name));
  view.append(element("pre", "", pretty(call.arguments)));
  return view;
}

/**
 * @param {Answer} answer
 * @param {Actions} actions
 */
function resultsForm(answer, actions) {
  const form = /** @type {HTMLFormElement} */ (element("form", "results"));
  const fields = answer.toolCalls.map((call) => {
    const label = form.appendChild(element("label", "", `Result of ${call.name} `));
    return /** @type {HTMLTextAreaElement} */ (label.appendChild(element("textarea")));
  });
  form.append(element("button", "", "Send results"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.giveResults(
      fields.map((field, index) => ({ role: "tool", content: field.value, callId: answer.toolCalls[index].id })),
    );
  });
  return form;
}

/**
 * @param {HTMLElement} view
 * @param {string} content
 * @param {Actions} actions
 */
function edit(view, content, actions) {
  const before = [...view.childNodes];
  const field = /** @type {HTMLTextAreaElement} */ (element("textarea", "edit"));
  field.setAttribute("aria-label", "Edit the message");
  field.value = content;
  const cancel = () => {
    view.replaceChildren(...before);
    view.querySelector("button")?.focus();
  };
  const save = () => (field.value.trim() ? actions.edit(field.value) : cancel());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation(); // it stops no answer
      cancel();
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    save();
  });
  view.replaceChildren(field, toolbar(["Send", save], ["Cancel", cancel]));
  field.focus();
}

/**
 * @param {string} text
 * @returns {[string, () => void][]} nothing where the browser has no clipboard for pages of plain HTTP
 */
function copy(text) {
  return text && navigator.clipboard ? [["Copy", () => void navigator.clipboard.writeText(text)]] : [];
}

/** @param {...[string, () => void]} buttons */
function toolbar(...buttons) {
  const bar = element("div", "toolbar");
  for (const [name, action] of buttons) {
    const button = /** @type {HTMLButtonElement} */ (element("button", "", name));
    button.type = "button";
    button.addEventListener("click", action);
    bar.append(button);
  }
  return bar;
}

/** @param {Answer} answer */
function facts({ finishReason, usage, seconds }) {
  const end = finishReason === "length" ? "cut at the token limit" : finishReason === "stopped" ? "stopped" : "";
  const count = usage ? `${usage.completion_tokens} tokens` : "";
  const speed = usage && seconds ? `${Math.round(usage.completion_tokens / seconds)} tokens/s` : "";
  return [end, count, seconds === null ? "" : `${seconds.toFixed(1)} s`, speed].filter(Boolean).join(" · ");
}

/** @param {string} json */
function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // still growing
  }
}

/**
 * @param {string} tag
 * @param {string} [className]
 * @param {string} [text]
 */
function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
