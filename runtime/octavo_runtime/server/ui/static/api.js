/** The server's API. Addresses are relative, so that the page also works behind a path of a proxy. */

import { eventData } from "./sse.js";

/** A refusal or failure, in words for a person. */
export class ApiFailure extends Error {}

const KEY = "octavo-api-key";

/** The API key; it lives as long as the browser's tab. */
export const apiKey = {
  /** @returns {string} */
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** @param {string} key */
  set: (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY)),
};

/**
 * The names that the model is served by.
 * @returns {Promise<string[]>}
 */
export async function modelNames() {
  const response = await call("v1/models");
  return (await response.json()).data.map((/** @type {{id: string}} */ model) => model.id);
}

/**
 * The metrics in Prometheus' text format.
 * @returns {Promise<string>}
 */
export async function metricsText() {
  return (await call("metrics")).text();
}

/**
 * The chunks of a streamed chat answer, up to [DONE].
 * @param {object} body of the request, without stream
 * @param {AbortSignal} signal aborts the request
 * @returns {AsyncGenerator<any, void, void>} throws ApiFailure, and AbortError once aborted
 */
export async function* chatChunks(body, signal) {
  const response = await call("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  try {
    for await (const data of eventData(/** @type {ReadableStream} */ (response.body))) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiFailure(sentence(chunk.error.message));
      yield chunk;
    }
  } catch (error) {
    throw unreachable(error);
  }
  throw new ApiFailure("The connection ended before the answer did.");
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} with status 200
 */
async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (apiKey.get()) headers.set("Authorization", `Bearer ${apiKey.get()}`);
  const response = await fetch(path, { ...options, headers, cache: "no-store" }).catch((error) => {
    throw unreachable(error);
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {unknown} error */
function unreachable(error) {
  return error instanceof TypeError ? new ApiFailure("The server cannot be reached.") : error;
}

/** @param {Response} response with a status of 400 or more */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error?.message ?? `the server answered with HTTP ${response.status}`;
  const wait = response.headers.get("Retry-After");
  const advice = response.status === 401 ? " Enter an API key: Settings, More." : "";
  return new ApiFailure(sentence(said) + (wait ? ` Try again in ${wait} s.` : "") + advice);
}

/** @param {string} words */
function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}
