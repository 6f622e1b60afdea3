/** The conversation on the page: asks the model, shows its answers, and lets the reader go back. */

import { growingAnswer } from "./answer.js";
import { chatChunks } from "./api.js";
import { apiMessages } from "./conversation.js";
import { messageView, showAnswer } from "./message_view.js";
import { chosenParameters, systemPrompt } from "./parameters.js";

/** @typedef {import("./conversation.js").Message} Message */

const NEAR_END = 48; // pixels from the end of the log within which it follows a growing answer

/**
 * @param {HTMLElement} log that shows the messages
 * @param {(answering: boolean) => void} onChange hears when an answer begins and ends
 */
export function startChat(log, onChange) {
  const welcome = [...log.children];
  /** @type {Message[]} */
  let messages = [];
  /** @type {AbortController | null} */
  let request = null;

  /**
   * Goes on from the first `keep` messages with `said`; false where the settings do not allow it.
   * @param {number} keep
   * @param {...Message} said
   */
  function goOn(keep, ...said) {
    const parameters = chosenParameters();
    if (parameters === null) return false;
    request?.abort();
    messages = [...messages.slice(0, keep), ...said];
    const body = { ...parameters, messages: apiMessages(messages, systemPrompt()) };
    void answer(body, (request = new AbortController()));
    return true;
  }

  /**
   * @param {object} body of the request
   * @param {AbortController} mine
   */
  async function answer(body, mine) {
    const { answer, take } = growingAnswer();
    show();
    const view = log.appendChild(document.createElement("article"));
    const draw = oncePerFrame(() => mine === request && followingEnd(() => showAnswer(view, answer, null)));
    const start = performance.now();
    showAnswer(view, answer, null);
    log.scrollTop = log.scrollHeight;
    try {
      for await (const chunk of chatChunks(body, mine.signal)) {
        take(chunk);
        draw();
      }
    } catch (error) {
      if (mine.signal.aborted) answer.finishReason = "stopped";
      else answer.error = error instanceof Error ? error.message : String(error);
    }
    answer.seconds = (performance.now() - start) / 1000;
    if (mine !== request) return; // the reader has gone on from elsewhere
    request = null;
    messages.push(answer);
    followingEnd(() => showAnswer(view, answer, actions(messages.length - 1)));
    showBusy();
  }

  /**
   * @param {number} index of the message
   * @returns {import("./message_view.js").Actions}
   */
  function actions(index) {
    return {
      edit: (content) => goOn(index, { role: "user", content }),
      regenerate: () => goOn(index),
      giveResults: (results) => goOn(index + 1, ...results),
    };
  }

  function show() {
    const focused = log.contains(document.activeElement);
    const views = messages.map((message, index) => messageView(message, actions(index)));
    log.replaceChildren(...(messages.length > 0 ? views : welcome));
    if (focused) log.focus();
    showBusy();
  }

  /** Whoever listens to the page hears an answer once, when it is whole. */
  function showBusy() {
    log.setAttribute("aria-busy", String(request !== null));
    onChange(request !== null);
  }

  /** @param {() => void} change */
  function followingEnd(change) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    change();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  return {
    /** @param {string} content */
    ask: (content) => goOn(messages.length, { role: "user", content }),
    stop: () => request?.abort(),
    clear() {
      request?.abort();
      request = null;
      messages = [];
      show();
    },
  };
}

/**
 * @param {() => void} action
 * @returns {() => void} asks for it: it comes with the browser's next frame, once
 */
function oncePerFrame(action) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      action();
    });
  };
}
