/** The messages of a conversation, and what the API is told of them. */

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {{role: "tool", content: string, callId: string}} ToolResult */
/** @typedef {{role: "user", content: string} | ToolResult | Answer} Message */

/**
 * The messages in the API's shape. An answer that failed before its first word is left out, and so are tool calls
 * that got no result: no model may be told of them.
 * @param {Message[]} messages
 * @param {string} system the system prompt; none where it is empty
 * @returns {object[]}
 */
export function apiMessages(messages, system) {
  const results = new Set(messages.map((message) => (message.role === "tool" ? message.callId : "")));
  const told = system ? [{ role: "system", content: system }] : [];
  return [...told, ...messages.map((message) => apiMessage(message, results)).filter((one) => one !== null)];
}

/**
 * @param {Message} message
 * @param {Set<string>} results ids of the tool calls that have one
 * @returns {object | null}
 */
function apiMessage(message, results) {
  if (message.role === "user") return { role: "user", content: message.content };
  if (message.role === "tool") return { role: "tool", content: message.content, tool_call_id: message.callId };
  const calls = message.toolCalls.filter((call) => results.has(call.id));
  if (!message.content && calls.length === 0) return null;
  if (calls.length === 0) return { role: "assistant", content: message.content };
  const tool_calls = calls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  return { role: "assistant", content: message.content || null, tool_calls };
}
