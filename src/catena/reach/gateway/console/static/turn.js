// One turn of a conversation on the page: a question, or an answer with its seal.
import { fill, h, icon } from "./dom.js";
import { knows } from "./i18n.js";
import { MarkdownView } from "./markdown.js";

const FRAME_MS = 60;

/** A question. */
export function questionView(turn) {
  return h(
    "li",
    { class: "turn question" },
    h("span", { class: "rail", "aria-hidden": "true" }),
    h("h2", { class: "visually-hidden", say: "turn.question" }),
    h("div", { class: "asked" }, turn.text),
  );
}

/** An answer; follows `answering` while it grows. `actions` has `again()` for the last answer, or is empty. */
export class AnswerView {
  #view;
  #drawn = 0;
  #timer = null;

  constructor(turn, answering, actions) {
    this.turn = turn;
    this.answering = answering;
    this.actions = actions;
    this.prose = h("div", { class: "prose" });
    this.thinking = h("div", { class: "thinking" });
    this.thought = h("details", { class: "thought", hidden: true }, h("summary", { say: "turn.thinking" }), this.thinking);
    this.sign = h("p", { class: "sign", hidden: true });
    this.foot = h("div", { class: "foot" });
    this.#view = new MarkdownView(this.prose);
    this.element = h(
      "li",
      { class: "turn answer" },
      h("span", { class: "rail", "aria-hidden": "true" }),
      h("h2", { class: "visually-hidden", say: "turn.answer" }),
      this.thought,
      this.prose,
      this.sign,
      this.foot,
    );
    answering?.addEventListener("changed", () => this.#soon());
    this.draw();
  }

  /** Draw at most every FRAME_MS, and less often when drawing is dear. */
  #soon() {
    if (this.turn.outcome) this.draw();
    else this.#timer ??= setTimeout(() => this.draw(), Math.max(FRAME_MS, 4 * this.#drawn));
  }

  draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const began = performance.now();
    const { turn } = this;
    const isOpen = !turn.outcome;
    this.element.dataset.state = turn.outcome || "open";
    this.element.setAttribute("aria-busy", String(isOpen));
    this.#view.update(turn.text);
    this.thought.hidden = !turn.reasoning;
    if (turn.reasoning) this.thinking.textContent = turn.reasoning;
    this.#drawSign(isOpen);
    if (!isOpen) this.#drawFoot();
    this.#drawn = performance.now() - began;
    this.element.dispatchEvent(new CustomEvent("catena:grown", { bubbles: true }));
  }

  #drawSign(isOpen) {
    const sign = isOpen ? this.answering?.sign : null;
    this.sign.hidden = !sign;
    if (!sign) return;
    const percent = sign.fraction === null ? "" : ` ${Math.round(sign.fraction * 100)} %`;
    const text = h("span", { say: [`sign.${sign.phase}`, { model: this.turn.model }] });
    fill(this.sign, h("span", { class: "pulse", "aria-hidden": "true" }), text, percent);
  }

  #drawFoot() {
    const { turn } = this;
    const copy = turn.text && button("copy", "copy", () => this.#copy());
    const again = this.actions.again && button("again", "turn.again", this.actions.again);
    fill(this.foot, note(turn), errorBox(turn.error), sealOf(turn), h("div", { class: "acts" }, copy, again));
  }

  async #copy() {
    await navigator.clipboard.writeText(this.turn.text);
    document.dispatchEvent(new CustomEvent("catena:say", { detail: "copied" }));
  }
}

function button(symbol, key, onclick) {
  return h("button", { type: "button", class: "quiet small", sayTitle: key, onclick }, icon(symbol), h("span", { say: key }));
}

function note({ outcome, finish, warning }) {
  const parts = [];
  if (outcome === "stopped") parts.push(h("p", { class: "note", say: "turn.stopped" }));
  if (finish === "length") parts.push(h("p", { class: "note", say: "turn.cutByLength" }));
  if (warning) parts.push(h("p", { class: "note", lang: "en" }, warning));
  return parts;
}

/** An error in the user's language where the page knows its code, else in the gateway's own words. */
export function errorBox(error) {
  if (!error) return null;
  const key = `error.${error.code}`;
  const hintKey = `hint.${error.code}`;
  const isKnown = knows(key);
  const title = isKnown ? h("p", { say: key }) : h("p", error.message ? { lang: "en" } : { say: "error.internal" }, error.message);
  const detail = isKnown && error.message ? h("p", { class: "detail", lang: "en" }, error.message) : null;
  const spoken = knows(hintKey) ? h("p", { say: hintKey }) : null;
  const hint = spoken || (error.hint ? h("p", { lang: "en" }, error.hint) : null);
  return h("div", { class: "error", role: "alert" }, icon("cross"), h("div", null, title, detail, hint));
}

/** The seal: what the record says about where the answer was made, and the way to its receipt. */
function sealOf({ receipt, record, model, outcome }) {
  if (!receipt) return null;
  const isLocal = record?.decision === "local";
  let key = "seal.unknown";
  if (isLocal) key = record.outcome === "complete" && outcome === "complete" ? "seal.local" : "seal.localCut";
  else if (record?.decision === "remote") key = "seal.remote";
  else if (record?.decision === "refuse") key = "seal.refused";
  const says = h("span", { class: "seal-says", say: [key, { model: record?.model || model }] });
  const more = h("span", { class: "seal-more", say: "seal.open" });
  const link = { class: "seal", href: `/receipts/${encodeURIComponent(receipt)}`, data: { route: "", kind: record?.decision || "" } };
  return h("a", link, icon("link"), says, " ", more);
}
