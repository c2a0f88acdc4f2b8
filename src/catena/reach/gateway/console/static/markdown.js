// Markdown as models write it, rendered to elements: paragraphs, headings, lists, code, tables, quotes, rules.
// Raw HTML is text, pictures are not fetched, only http(s) becomes a link; work is linear in the length of the text.
import { fill, h, icon } from "./dom.js";
import { appendInline } from "./inline.js";

const MAX_DEPTH = 8;
const MAX_COLUMNS = 40;
const FENCE = /^( {0,3})(`{3,}|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: {1,4}|\t|$)/;
const CELL = /^\s*:?-+:?\s*$/;
const BLANK = /^\s*$/;

/** A view of growing text: `update(text)` redraws only the blocks that changed. */
export class MarkdownView {
  #blocks = [];

  constructor(element) {
    this.element = element;
  }

  update(text) {
    const blocks = split(text.replaceAll("\r\n", "\n").split("\n"), 0);
    levelHeadings(blocks);
    let same = 0;
    while (same < blocks.length && same < this.#blocks.length && blocks[same].key === this.#blocks[same].key) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    for (const block of blocks.slice(same)) this.element.append(render(block, 0));
    this.#blocks = blocks.map(({ key }) => ({ key }));
  }
}

/** `text` rendered into `element`. */
export function renderMarkdown(element, text) {
  fill(element);
  new MarkdownView(element).update(text);
}

/** Blocks of `lines`; each has a `kind`, what its kind needs, and a `key` that is equal for equal blocks. */
function split(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (BLANK.test(lines[at])) {
      at += 1;
      continue;
    }
    const block = fence(lines, at) || heading(lines, at) || rule(lines, at);
    const found = block || nested(lines, at, depth) || table(lines, at) || paragraph(lines, at, depth);
    found.key = `${found.kind}\n${lines.slice(at, found.end).join("\n")}`;
    blocks.push(found);
    at = found.end;
  }
  return blocks;
}

function fence(lines, start) {
  const open = FENCE.exec(lines[start]);
  if (!open) return null;
  const [whole, indent, mark] = open;
  const information = lines[start].slice(whole.length).trim();
  if (mark[0] === "`" && information.includes("`")) return null;
  const language = information.slice(0, 40).split(/\s/, 1)[0];
  const body = [];
  let at = start + 1;
  for (; at < lines.length; at += 1) {
    const line = lines[at].trim();
    if (line.length >= mark.length && line === mark[0].repeat(line.length)) {
      at += 1;
      break;
    }
    body.push(lines[at].startsWith(indent) ? lines[at].slice(indent.length) : lines[at]);
  }
  return { kind: "code", language, text: body.join("\n"), end: at };
}

function heading(lines, at) {
  const found = HEADING.exec(lines[at]);
  return found && { kind: "heading", level: found[1].length, text: trimHashes(lines[at].slice(found[0].length)), end: at + 1 };
}

function trimHashes(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (end > 0 && trimmed[end - 1] === "#") end -= 1;
  return end < trimmed.length && (end === 0 || trimmed[end - 1] === " ") ? trimmed.slice(0, end).trimEnd() : trimmed;
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? { kind: "rule", end: at + 1 } : null;
}

function nested(lines, at, depth) {
  if (depth >= MAX_DEPTH) return null;
  if (QUOTE.test(lines[at])) return quote(lines, at, depth);
  return ITEM.test(lines[at]) ? list(lines, at, depth) : null;
}

function quote(lines, start, depth) {
  const inner = [];
  let at = start;
  while (at < lines.length && QUOTE.test(lines[at])) {
    inner.push(lines[at].replace(QUOTE, ""));
    at += 1;
  }
  return { kind: "quote", blocks: split(inner, depth + 1), end: at };
}

function list(lines, start, depth) {
  const first = ITEM.exec(lines[start]);
  const isOrdered = /\d/.test(first[2]);
  const items = [];
  let at = start;
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]);
    if (!found || /\d/.test(found[2]) !== isOrdered || found[2].at(-1) !== first[2].at(-1) || RULE.test(lines[at])) break;
    const end = itemEnd(lines, at);
    const inner = [lines[at].slice(found[0].length)];
    for (let line = at + 1; line < end; line += 1) inner.push(dedent(lines[line], found[0].length));
    items.push(split(inner, depth + 1));
    at = end;
    while (at < lines.length && BLANK.test(lines[at]) && ITEM.test(lines[at + 1] ?? "")) at += 1;
  }
  return { kind: "list", isOrdered, first: Number.parseInt(first[2], 10), items, end: at };
}

/** An item holds what is indented under it, and the lazy lines that continue its paragraph. */
function itemEnd(lines, start) {
  let at = start + 1;
  let isAfterBlank = false;
  for (; at < lines.length; at += 1) {
    const line = lines[at];
    if (BLANK.test(line)) {
      isAfterBlank = true;
      continue;
    }
    const isIndented = /^(?: {2,}|\t)/.test(line);
    if (!isIndented && (isAfterBlank || startsBlock(line))) break;
    isAfterBlank = false;
  }
  while (at > start + 1 && BLANK.test(lines[at - 1])) at -= 1;
  return at;
}

function dedent(line, width) {
  let at = 0;
  while (at < width && line[at] === " ") at += 1;
  return line[at] === "\t" ? line.slice(at + 1) : line.slice(at);
}

function startsBlock(line) {
  return ITEM.test(line) || HEADING.test(line) || FENCE.test(line) || QUOTE.test(line) || RULE.test(line);
}

function table(lines, start) {
  if (!isTable(lines, start)) return null;
  const head = cells(lines[start]);
  const marks = cells(lines[start + 1]);
  const rows = [];
  let at = start + 2;
  while (at < lines.length && lines[at].includes("|") && !BLANK.test(lines[at])) {
    rows.push(cells(lines[at]).slice(0, head.length));
    at += 1;
  }
  const sides = marks.map((mark) => alignment(mark.trim()));
  return { kind: "table", head, rows, sides, end: at };
}

function isTable(lines, start) {
  const next = lines[start + 1] ?? "";
  if (!lines[start].includes("|") || !next.includes("-") || !next.includes("|")) return false;
  const marks = cells(next);
  return marks.length <= MAX_COLUMNS && marks.every((mark) => CELL.test(mark)) && cells(lines[start]).length === marks.length;
}

function alignment(mark) {
  if (mark.endsWith(":")) return mark.startsWith(":") ? "centre" : "right";
  return "left";
}

function cells(line) {
  const found = [];
  let cell = "";
  const text = line.trim();
  for (let at = text.startsWith("|") ? 1 : 0; at < text.length; at += 1) {
    if (text[at] === "\\" && text[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (text[at] === "|") {
      found.push(cell.trim());
      cell = "";
    } else cell += text[at];
  }
  if (cell.trim() || found.length === 0) found.push(cell.trim());
  return found;
}

function paragraph(lines, start, depth) {
  let at = start + 1;
  while (at < lines.length && !BLANK.test(lines[at])) {
    if (HEADING.test(lines[at]) || FENCE.test(lines[at]) || RULE.test(lines[at])) break;
    if (isTable(lines, at)) break;
    if (depth < MAX_DEPTH && (QUOTE.test(lines[at]) || ITEM.test(lines[at]))) break;
    at += 1;
  }
  const text = lines.slice(start, at).map((line) => line.trim());
  return { kind: "paragraph", text: text.join("\n"), end: at };
}

/** Headings go under the page's own (level 2), each at most one deeper than the one before: no level is skipped. */
function levelHeadings(blocks) {
  let last = 2;
  for (const block of blocks) {
    if (block.kind !== "heading") continue;
    last = Math.min(last + 1, block.level + 2, 6);
    block.shown = last;
    block.key = `${last}${block.key}`;
  }
}

function inline(element, text) {
  appendInline(element, text);
  return element;
}

function renderAll(blocks, depth) {
  return blocks.map((block) => render(block, depth));
}

function render(block, depth) {
  switch (block.kind) {
    case "heading":
      return inline(h(block.shown ? `h${block.shown}` : "p", { class: "heading" }), block.text);
    case "code":
      return codeBlock(block);
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", null, renderAll(block.blocks, depth + 1));
    case "list": {
      const items = block.items.map((blocks) => h("li", null, renderItem(blocks, depth + 1)));
      const start = block.isOrdered && block.first !== 1 ? block.first : null;
      return h(block.isOrdered ? "ol" : "ul", { start }, items);
    }
    case "table":
      return tableBlock(block);
    default:
      return inline(h("p"), block.text);
  }
}

/** An item of one paragraph needs no paragraph of its own. */
function renderItem(blocks, depth) {
  const [first, ...rest] = blocks;
  if (first?.kind !== "paragraph") return renderAll(blocks, depth);
  return [inline(h("span", { class: "item" }), first.text), ...renderAll(rest, depth)];
}

function codeBlock({ language, text }) {
  const copy = h(
    "button",
    {
      type: "button",
      class: "quiet small",
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        document.dispatchEvent(new CustomEvent("catena:say", { detail: "copied" }));
      },
    },
    icon("copy"),
    h("span", { say: "copy" }),
  );
  const head = h("div", { class: "code-head" }, h("span", { class: "code-language" }, language || ""), copy);
  const body = h("pre", null, h("code", null, text));
  return h("div", { class: "code" }, head, h("div", { class: "scroll", role: "group", tabindex: "0", sayLabel: "code" }, body));
}

function tableBlock({ head, rows, sides }) {
  const cell = (tag, text, column) => inline(h(tag, { class: sides[column], scope: tag === "th" ? "col" : null }), text);
  const body = rows.map((row) => h("tr", null, head.map((_, column) => cell("td", row[column] ?? "", column))));
  const titles = h("tr", null, head.map((text, column) => (text ? cell("th", text, column) : h("td"))));
  const whole = h("table", null, h("thead", null, titles), h("tbody", null, body));
  return h("div", { class: "scroll", role: "group", tabindex: "0", sayLabel: "table" }, whole);
}
