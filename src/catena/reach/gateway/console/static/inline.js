// Emphasis, code, links and line breaks inside one block of Markdown, in one pass: time grows with length only.
import { h } from "./dom.js";

const MAX_DEPTH = 16;
const MARKERS = { "*": ["em", "strong"], _: ["em", "strong"], "~": [null, "del"] };
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
// An address without brackets, or with one level of balanced round ones, and an optional title.
const TARGET = /\(\s{0,3}<?([^\s()<>[\]]*(?:\([^\s()<>[\]]*\)[^\s()<>[\]]*)*)>?(?:\s{1,3}"[^"\n]{0,300}")?\s{0,3}\)/y;
const BARE = /https?:\/\/[^\s<>"'`*()[\]{}|\\^，。；：！？、）（】【》《」「]{1,2000}/y;
const TRAILING = ".,;:!?_~";

/** An address that may be shown as a link: absolute, http or https, without a user name; null for all others. */
export function safeAddress(text) {
  let address;
  try {
    address = new URL(text);
  } catch {
    return null;
  }
  const isWeb = address.protocol === "http:" || address.protocol === "https:";
  return isWeb && !address.username && !address.password ? address.href : null;
}

/** A link out of this page: opened only by the user's own click, told nothing about where it was clicked. */
export function outsideLink(address, ...children) {
  const rel = "noopener noreferrer nofollow";
  return h("a", { href: address, title: address, target: "_blank", rel, class: "outside" }, ...children);
}

/** Append `source`, read as inline Markdown, to `parent`. */
export function appendInline(parent, source) {
  new Inline(parent, source).run();
}

class Inline {
  constructor(parent, source) {
    this.source = source;
    this.at = 0;
    this.text = "";
    this.frames = [{ node: parent, marker: null }];
    this.runs = codeRuns(source);
  }

  run() {
    const { source } = this;
    while (this.at < source.length) {
      const letter = source[this.at];
      if (letter === "\\") this.escape();
      else if (letter === "`") this.code();
      else if (letter in MARKERS) this.emphasis(letter);
      else if (letter === "[") this.openLink("[", 1);
      else if (letter === "!" && source[this.at + 1] === "[") this.openLink("![", 2);
      else if (letter === "]") this.closeLink();
      else if (letter === "h" && !this.bareLink()) this.take(1);
      else if (letter !== "h") this.take(1);
    }
    while (this.frames.length > 1) this.abandon();
    this.flush();
  }

  get top() {
    return this.frames[this.frames.length - 1];
  }

  take(length) {
    this.text += this.source.slice(this.at, this.at + length);
    this.at += length;
  }

  flush() {
    if (this.text) this.top.node.append(this.text);
    this.text = "";
  }

  escape() {
    const next = this.source[this.at + 1];
    if (next === "\n") {
      this.flush();
      this.top.node.append(h("br"));
      this.at += 2;
    } else if (next !== undefined && ESCAPABLE.test(next)) {
      this.text += next;
      this.at += 2;
    } else this.take(1);
  }

  code() {
    const start = this.at;
    let length = 0;
    while (this.source[start + length] === "`") length += 1;
    const ends = this.runs.get(length);
    while (ends.next < ends.at.length && ends.at[ends.next] < start + length) ends.next += 1;
    if (ends.next >= ends.at.length) {
      this.take(length);
      return;
    }
    const end = ends.at[ends.next];
    let inner = this.source.slice(start + length, end).replaceAll("\n", " ");
    if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    this.flush();
    this.top.node.append(h("code", null, inner));
    this.at = end + length;
  }

  emphasis(letter) {
    const { source } = this;
    let length = 0;
    while (source[this.at + length] === letter) length += 1;
    const before = source[this.at - 1] ?? " ";
    const after = source[this.at + length] ?? " ";
    const isInWord = letter === "_" && WORD.test(before) && WORD.test(after);
    const canOpen = !/\s/.test(after) && !isInWord;
    const canClose = !/\s/.test(before) && !isInWord;
    let left = length > 8 ? 0 : length;
    if (left === 0) this.take(length);
    if (canClose) left = this.closeEmphasis(letter, left);
    if (canOpen) left = this.openEmphasis(letter, left);
    if (left > 0) this.take(left);
  }

  closeEmphasis(letter, available) {
    let left = available;
    while (left > 0) {
      const found = this.nearest((frame) => frame.letter === letter);
      const frame = this.frames[found];
      if (!frame || frame.marker.length > left || (found === this.frames.length - 1 && this.isEmpty())) break;
      while (this.frames.length - 1 > found) this.abandon();
      left -= frame.marker.length;
      this.at += frame.marker.length;
      this.close();
    }
    return left;
  }

  openEmphasis(letter, available) {
    let left = available;
    while (left > 0 && this.frames.length <= MAX_DEPTH) {
      const size = left >= 2 ? 2 : 1;
      const tag = MARKERS[letter][size - 1];
      if (tag === null) break;
      this.open(h(tag), letter.repeat(size), letter);
      this.at += size;
      left -= size;
    }
    return left;
  }

  /** The index of the innermost frame that `wanted` accepts, without crossing a link's bracket; -1 if none. */
  nearest(wanted) {
    for (let index = this.frames.length - 1; index > 0; index -= 1) {
      if (wanted(this.frames[index])) return index;
      if (this.frames[index].letter === "[") return -1;
    }
    return -1;
  }

  isEmpty() {
    return this.text === "" && !this.top.node.hasChildNodes();
  }

  open(node, marker, letter) {
    this.flush();
    this.frames.push({ node, marker, letter });
  }

  close() {
    this.flush();
    const { node } = this.frames.pop();
    this.top.node.append(node);
  }

  /** The innermost frame turns out to be plain text: its marker and children move to the frame around it. */
  abandon() {
    this.flush();
    const { node, marker } = this.frames.pop();
    this.top.node.append(marker);
    moveChildren(node, this.top.node);
  }

  openLink(marker, length) {
    if (this.frames.length > MAX_DEPTH || this.frames.some((frame) => frame.letter === "[")) this.take(length);
    else {
      this.open(h("span"), marker, "[");
      this.at += length;
    }
  }

  closeLink() {
    const found = this.frames.findLastIndex((frame) => frame.letter === "[");
    TARGET.lastIndex = this.at + 1;
    const target = found > 0 ? TARGET.exec(this.source) : null;
    if (!target) {
      this.take(1);
      if (found > 0) {
        while (this.frames.length > found) this.abandon();
      }
      return;
    }
    while (this.frames.length - 1 > found) this.abandon();
    this.flush();
    const { node } = this.frames.pop();
    const address = safeAddress(target[1]);
    // A picture is never fetched: its description stands for it. An address of another kind is shown, not linked.
    if (address) {
      const link = outsideLink(address);
      if (node.hasChildNodes()) moveChildren(node, link);
      else link.append(address);
      this.top.node.append(link);
    } else {
      moveChildren(node, this.top.node);
      if (target[1]) this.top.node.append(` (${target[1]})`);
    }
    this.at += 1 + target[0].length;
  }

  bareLink() {
    BARE.lastIndex = this.at;
    const isStart = !WORD.test(this.source[this.at - 1] ?? " ");
    const found = isStart && !this.frames.some((frame) => frame.letter === "[") ? BARE.exec(this.source) : null;
    if (!found) return false;
    let end = found[0].length;
    while (TRAILING.includes(found[0][end - 1])) end -= 1;
    const text = found[0].slice(0, end);
    const address = safeAddress(text);
    if (!address) {
      this.take(end);
      return true;
    }
    this.flush();
    this.top.node.append(outsideLink(address, text));
    this.at += text.length;
    return true;
  }
}

/** One by one: a call with all of them as arguments would overflow the stack on a long text. */
function moveChildren(from, to) {
  while (from.firstChild) to.append(from.firstChild);
}

/** Where runs of backticks of each length start, so that finding the end of a code span never searches twice. */
function codeRuns(source) {
  const runs = new Map();
  for (const match of source.matchAll(/`+/g)) {
    const { length } = match[0];
    if (!runs.has(length)) runs.set(length, { at: [], next: 0 });
    runs.get(length).at.push(match.index);
  }
  return runs;
}
