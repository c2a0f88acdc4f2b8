// Speaks to screen readers: whole sentences, politely, and not more often than they can be listened to.
import { h } from "./dom.js";
import { t } from "./i18n.js";

const PAUSE_MS = 2500;
const KEPT = 8;
const SENTENCE_END = /[.!?。！？…](?=\s|$)|[。！？]|\n/g;

const region = h("div", { class: "visually-hidden", role: "log", "aria-live": "polite", "aria-atomic": "false", id: "spoken" });
let waiting = "";
let timer = null;

/** Put the live region into the page. */
export function mountAnnouncer(parent) {
  parent.append(region);
  document.addEventListener("catena:say", (event) => announce(t(event.detail)));
}

/** Say `text` soon. */
export function announce(text) {
  const plain = text.replace(/[*_`#|>~]+/g, "").trim();
  if (!plain) return;
  region.append(h("p", null, plain));
  while (region.childNodes.length > KEPT) region.firstChild.remove();
}

/** More of a streaming answer: said once whole sentences of it are there. */
export function announceStream(text) {
  waiting += text;
  timer ??= setTimeout(sayWhole, PAUSE_MS);
}

/** The streaming answer has ended: say what is left, and `ending`. */
export function endStream(ending) {
  clearTimeout(timer);
  timer = null;
  announce(waiting);
  waiting = "";
  announce(ending);
}

function sayWhole() {
  timer = null;
  let end = 0;
  for (const match of waiting.matchAll(SENTENCE_END)) end = match.index + match[0].length;
  if (end === 0) return;
  announce(waiting.slice(0, end));
  waiting = waiting.slice(end);
}
