/** An answer as it grows, chunk by chunk. */

/**
 * @typedef {object} Token a piece of an answer's text
 * @property {string} token its own text
 * @property {number} logprob natural logarithm of its probability
 * @property {number} start where it begins in the answer's text
 * @property {number} end
 * @property {{token: string, logprob: number}[]} alternatives the likeliest tokens in its place, in order
 *
 * @typedef {object} ToolCall
 * @property {string} id
 * @property {string} name
 * @property {string} arguments JSON
 *
 * @typedef {object} Answer
 * @property {"assistant"} role
 * @property {string} content
 * @property {string} reasoning
 * @property {ToolCall[]} toolCalls
 * @property {Token[]} tokens of the content, where their probabilities were asked for
 * @property {string | null} finishReason as the API says it; "stopped" where the reader stopped it
 * @property {string | null} error in words
 * @property {{prompt_tokens: number, completion_tokens: number} | null} usage
 * @property {number | null} seconds that it took
 */

/**
 * An answer before its first chunk, and what takes the chunks.
 * @returns {{answer: Answer, take: (chunk: any) => void}}
 */
export function growingAnswer() {
  /** @type {Answer} */
  const answer = {
    role: "assistant",
    content: "",
    reasoning: "",
    toolCalls: [],
    tokens: [],
    finishReason: null,
    error: null,
    usage: null,
    seconds: null,
  };
  const tokens = tokenPlacer();
  return {
    answer,
    take(chunk) {
      answer.usage = chunk.usage ?? answer.usage;
      const choice = chunk.choices[0];
      if (!choice) return;
      answer.finishReason = choice.finish_reason ?? answer.finishReason;
      const reasoning = choice.delta.reasoning ?? choice.delta.reasoning_content;
      if (reasoning) answer.reasoning += reasoning;
      answer.content += choice.delta.content ?? "";
      for (const call of choice.delta.tool_calls ?? []) takeToolCall(answer.toolCalls, call);
      if (choice.delta.content) answer.tokens.push(...tokens(choice.logprobs?.content ?? [], answer.content));
    },
  };
}

/**
 * @param {ToolCall[]} calls
 * @param {any} delta
 */
function takeToolCall(calls, delta) {
  const call = (calls[delta.index] ??= { id: "", name: "", arguments: "" });
  call.id = delta.id ?? call.id;
  call.name += delta.function?.name ?? "";
  call.arguments += delta.function?.arguments ?? "";
}

/** Finds each token's place in the text. A character may be spread over several tokens: it belongs to the last. */
function tokenPlacer() {
  const decoder = new TextDecoder();
  /** @type {number | null} */
  let end = null;
  return (/** @type {any[]} */ entries, /** @type {string} */ content) =>
    entries.map((entry) => {
      const text = entry.bytes
        ? decoder.decode(new Uint8Array(entry.bytes), { stream: true })
        : entry.token;
      // The space that begins the first token of some tokenizers is not shown.
      end ??= text.startsWith(" ") && !content.startsWith(" ") ? -1 : 0;
      const start = Math.max(end, 0);
      end += text.length;
      return { token: entry.token, logprob: entry.logprob, start, end, alternatives: entry.top_logprobs };
    });
}
