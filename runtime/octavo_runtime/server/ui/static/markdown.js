/** A small Markdown: headings, lists, code, bold. It makes nodes, never HTML, so text stays text. */

/**
 * @typedef {(parent: Node, from: number, to: number) => void} Put appends the text between two places of the source
 */

/**
 * @param {string} source
 * @param {Put} put
 * @returns {DocumentFragment}
 */
export function markdown(source, put) {
  const page = document.createDocumentFragment();
  /** @type {HTMLElement | null} */
  let block = null; // the paragraph, list or code that the next line may go on with
  let inCode = false;
  for (const { from, to } of lines(source)) {
    const line = source.slice(from, to);
    if (/^\s*```/.test(line)) {
      inCode = !inCode;
      block = inCode ? page.appendChild(element("pre")).appendChild(element("code")) : null;
    } else if (inCode && block) {
      put(block, from, Math.min(to + 1, source.length));
    } else if (line.trim() === "") {
      block = null;
    } else {
      block = addLine(page, block, source, from, to, put);
    }
  }
  return page;
}

/**
 * @param {DocumentFragment} page
 * @param {HTMLElement | null} block
 * @param {string} source
 * @param {number} from
 * @param {number} to
 * @param {Put} put
 * @returns {HTMLElement | null} what the next line may go on with
 */
function addLine(page, block, source, from, to, put) {
  const [, mark = ""] = source.slice(from, to).match(/^(#{1,6} +|\s*[-*+] +|\s*\d{1,9}[.)] +)/) ?? [];
  const start = from + mark.length;
  if (mark.startsWith("#")) {
    addInline(page.appendChild(element(`h${Math.min(mark.trim().length + 2, 6)}`)), source, start, to, put);
    return null;
  }
  if (mark) {
    const number = parseInt(mark, 10);
    const tag = Number.isNaN(number) ? "UL" : "OL";
    const list = block?.tagName === tag ? block : page.appendChild(element(tag));
    if (list !== block && tag === "OL") list.setAttribute("start", String(number));
    addInline(list.appendChild(element("li")), source, start, to, put);
    return list;
  }
  if (block?.lastElementChild?.tagName === "LI") {
    block.lastElementChild.append("\n");
    addInline(block.lastElementChild, source, start, to, put);
    return block;
  }
  const paragraph = block?.tagName === "P" ? block : page.appendChild(element("p"));
  if (paragraph === block) put(paragraph, from - 1, from);
  addInline(paragraph, source, start, to, put);
  return paragraph;
}

/**
 * @param {HTMLElement} parent
 * @param {string} source
 * @param {number} from
 * @param {number} to
 * @param {Put} put
 */
function addInline(parent, source, from, to, put) {
  let done = from;
  for (const match of source.slice(from, to).matchAll(/`([^`]+)`|\*\*([^*]+)\*\*/g)) {
    const at = from + match.index;
    const width = match[1] === undefined ? 2 : 1; // of the mark on each side
    put(parent, done, at);
    done = at + match[0].length;
    put(parent.appendChild(element(width === 1 ? "code" : "strong")), at + width, done - width);
  }
  put(parent, done, to);
}

/** @param {string} source */
function* lines(source) {
  for (let from = 0; from <= source.length; ) {
    const found = source.indexOf("\n", from);
    const to = found < 0 ? source.length : found;
    yield { from, to };
    from = to + 1;
  }
}

/** @param {string} tag */
function element(tag) {
  return document.createElement(tag);
}
