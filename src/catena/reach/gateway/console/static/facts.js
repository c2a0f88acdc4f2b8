// What a link states, with names a layman understands; values stay exactly as the machine gave them.
import { h } from "./dom.js";
import { bind, knows, t } from "./i18n.js";

const LONG = 28;

/** The facts of a link, folded away until asked for. */
export function factList(facts) {
  const rows = Object.entries(facts || {});
  if (rows.length === 0) return null;
  const list = h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", null, term(name), detail(String(value)))));
  return h("details", { class: "fold" }, h("summary", { say: ["facts.show", { n: rows.length }] }), list);
}

function term(name) {
  const key = `fact.${name}`;
  if (knows(key)) return h("dt", { say: key });
  if (name.startsWith("file ")) return h("dt", { say: ["fact.file", { name: name.slice(5) }] });
  return h("dt", { lang: "en" }, name);
}

function detail(value) {
  const key = `value.${value}`;
  if (knows(key)) return h("dd", { say: key });
  return h("dd", null, value.length > LONG ? h("code", null, value) : value);
}

/** The machine's own sentence, in the user's language where the page knows it. */
export function reasonText(reason) {
  if (!reason) return null;
  const element = h("p", { class: "reason" });
  const key = `reason.${reason}`;
  if (knows(key)) bind(element, null, key);
  else {
    element.textContent = reason;
    element.lang = "en";
  }
  return element;
}

/** `text` cut in the middle. */
export function shortened(text) {
  return text.length > LONG ? `${text.slice(0, 16)}…${text.slice(-6)}` : text;
}

/** The text for a decision, as a list shows it. */
export function decisionText(outcome) {
  return knows(`decision.${outcome}`) ? t(`decision.${outcome}`) : outcome;
}
