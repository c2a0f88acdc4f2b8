// One answer on its way: asks the gateway, fills the turn, keeps it in the history, and fetches what the receipt says.
import { announceStream, endStream } from "./announce.js";
import { getJson, streamChat } from "./api.js";
import { saveChat } from "./history.js";
import { t } from "./i18n.js";
import { preferences, requestFields } from "./preferences.js";

const SIGNS = ["loading", "queued", "prefill"];
const SAVE_EVERY_MS = 1500;
const running = new Map();

/** The answer being given in this conversation, if any. */
export function answeringIn(chatId) {
  return running.get(chatId) || null;
}

/** Every answer being given now. */
export function allAnswering() {
  return [...running.values()];
}

/** Starts at once; `changed` events follow every change of the turn, `ended` the last. */
export class Answering extends EventTarget {
  constructor(chat, turn) {
    super();
    this.chat = chat;
    this.turn = turn;
    this.sign = { phase: "waiting", fraction: null };
    this.#abort = new AbortController();
    this.#savedAt = Date.now();
    running.set(chat.id, this);
    this.done = this.#run();
  }

  #abort;
  #savedAt;

  stop() {
    this.#abort.abort();
  }

  async #run() {
    const { turn, chat } = this;
    try {
      const end = await streamChat(this.#request(), {
        signal: this.#abort.signal,
        onOpen: ({ receipt, warning }) => this.#change({ receipt, warning }),
        onSign: (text) => this.#takeSign(text),
        onText: (text) => this.#grow("text", text),
        onReasoning: (text) => this.#grow("reasoning", text),
      });
      this.#change({ outcome: "complete", finish: end.finish, model: end.model || turn.model, usage: end.usage });
      endStream(t(end.finish === "length" ? "said.cutByLength" : "said.complete"));
    } catch (error) {
      this.#fail(error);
    }
    running.delete(chat.id);
    await this.#save();
    this.dispatchEvent(new Event("ended"));
    await this.#fetchRecord();
  }

  #request() {
    const { chat, turn } = this;
    const { instructions } = preferences();
    const before = chat.turns.slice(0, chat.turns.indexOf(turn));
    const messages = before
      .filter(({ role, text }) => role === "user" || text)
      .map(({ role, text }) => ({ role, content: text }));
    if (instructions.trim()) messages.unshift({ role: "system", content: instructions.trim() });
    return { model: turn.model, messages, ...requestFields() };
  }

  #takeSign(text) {
    const phase = SIGNS.find((name) => text.includes(name));
    if (!phase) return;
    const number = /(\d+(?:\.\d+)?)\s*(%?)/.exec(text);
    const fraction = number ? Number(number[1]) / (number[2] ? 100 : 1) : null;
    this.sign = { phase, fraction: fraction !== null && fraction <= 1 ? fraction : null };
    this.dispatchEvent(new Event("changed"));
  }

  #grow(field, text) {
    this.sign = null;
    this.turn[field] += text;
    if (field === "text") announceStream(text);
    this.dispatchEvent(new Event("changed"));
    if (Date.now() - this.#savedAt > SAVE_EVERY_MS) this.#save();
  }

  #change(fields) {
    Object.assign(this.turn, fields);
    this.dispatchEvent(new Event("changed"));
  }

  #fail(error) {
    if (error.name === "AbortError") {
      this.#change({ outcome: "stopped" });
      endStream(t("said.stopped"));
      return;
    }
    const { status = 0, code = "internal", message = "", hint = "", receipt = null } = error;
    const told = { status, code, message: code === "internal" ? "" : message, hint };
    this.#change({ outcome: "failed", error: told, receipt: this.turn.receipt || receipt });
    endStream("");
  }

  async #save() {
    this.#savedAt = Date.now();
    this.chat.updatedAt = this.#savedAt;
    await saveChat(this.chat);
  }

  /** What the record says decides what the page may claim about where the answer was made. */
  async #fetchRecord() {
    if (!this.turn.receipt) return;
    try {
      const { opened, closed } = await getJson(`/catena/v1/receipts/${encodeURIComponent(this.turn.receipt)}`);
      const { outcome, model } = opened.decision;
      const record = { decision: outcome, model, outcome: closed?.outcome || null, device: closed?.device || "" };
      this.#change({ record });
      await saveChat(this.chat);
    } catch {
      // Without the record the page says nothing about it; the receipt page will tell why.
    }
  }
}
