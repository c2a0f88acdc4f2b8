// The conversation page: turns as links of a chain, a place to write, and what to try first.
import { Answering, answeringIn } from "./answering.js";
import { announce } from "./announce.js";
import { Composer } from "./composer.js";
import { fill, h, mark } from "./dom.js";
import { loadChat, newChat, saveChat } from "./history.js";
import { t } from "./i18n.js";
import { AnswerView, questionView } from "./turn.js";

const STARTERS = ["starter.1", "starter.2", "starter.3"];
const NEAR_END_PX = 120;
const TITLE_LENGTH = 60;

export class ChatPage {
  #chat = null;
  #isFollowing = true;

  /** `models` knows the chosen model; `onHistory()` is called whenever the list of conversations changed. */
  constructor(models, onHistory) {
    this.models = models;
    this.onHistory = onHistory;
    this.title = h("h1", { class: "chat-title", tabindex: "-1" });
    this.turns = h("ol", { class: "turns", sayLabel: "chat.turns" });
    this.scroller = h("div", { class: "scroller" }, h("div", { class: "column" }, this.title, this.turns));
    this.composer = new Composer({ onSend: (text) => this.send(text), onStop: () => this.stop() });
    this.element = h("div", { class: "chat" }, this.scroller, this.composer.element);
    this.scroller.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroller;
      this.#isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    }, { passive: true });
    this.turns.addEventListener("catena:grown", () => this.#follow());
  }

  get chatId() {
    return this.#chat?.id ?? null;
  }

  get isAnswering() {
    return Boolean(this.#chat && answeringIn(this.#chat.id));
  }

  /** Show the conversation `id`, or an empty one. */
  async open(id) {
    const running = id ? answeringIn(id) : null;
    this.#chat = running?.chat || (id && (await loadChat(id))) || newChat(this.models.chosen);
    this.#repair(running);
    this.draw();
    this.#isFollowing = true;
    this.#follow();
  }

  async send(text) {
    const chat = this.#chat;
    if (answeringIn(chat.id)) return;
    const model = this.models.chosen;
    if (!chat.title) chat.title = titleOf(text);
    chat.model = model;
    chat.turns.push({ role: "user", text, at: Date.now() });
    await this.#answer(model);
  }

  stop() {
    if (this.#chat) answeringIn(this.#chat.id)?.stop();
  }

  /** Ask the last question again; the answer that was there is dropped, its receipt stays in the log. */
  async again() {
    const chat = this.#chat;
    if (answeringIn(chat.id) || chat.turns.at(-1)?.role !== "assistant") return;
    chat.turns.pop();
    await this.#answer(this.models.chosen);
  }

  async #answer(model) {
    const chat = this.#chat;
    const turn = { role: "assistant", text: "", reasoning: "", model, at: Date.now(), receipt: null, outcome: null };
    chat.turns.push(turn);
    chat.updatedAt = Date.now();
    await saveChat(chat);
    const answering = new Answering(chat, turn);
    answering.addEventListener("ended", () => {
      if (this.#chat === chat) this.#settle(turn);
      this.onHistory();
    });
    this.draw();
    this.#isFollowing = true;
    this.#follow();
    this.onHistory();
    announce(t("said.asked", { model }));
  }

  /** The answer has ended: what is on the page stays as it is, with what can be done now added. */
  #settle(turn) {
    this.composer.setAnswering(false);
    if (this.last?.turn !== turn) return;
    this.last.actions.again = () => this.again();
    this.last.draw();
  }

  draw() {
    const chat = this.#chat;
    const running = answeringIn(chat.id);
    const isEmpty = chat.turns.length === 0;
    this.element.dataset.empty = String(isEmpty);
    if (isEmpty) fill(this.title, mark("mark large"), h("span", { say: "chat.welcome" }));
    else fill(this.title, chat.title);
    // The first question stands right below: to the eye the title would only repeat it.
    this.title.classList.toggle("visually-hidden", !isEmpty);
    this.turns.hidden = isEmpty;
    const last = chat.turns.at(-1);
    fill(this.turns, chat.turns.map((turn) => {
      if (turn.role === "user") return questionView(turn);
      const again = turn === last && !running ? () => this.again() : null;
      this.last = new AnswerView(turn, running?.turn === turn ? running : null, { again });
      return this.last.element;
    }));
    this.welcome?.remove();
    this.welcome = isEmpty ? this.#welcome() : null;
    if (this.welcome) this.turns.before(this.welcome);
    this.composer.setAnswering(Boolean(running));
  }

  #welcome() {
    const starters = STARTERS.map((key) => h(
      "li",
      null,
      h("button", { type: "button", class: "starter", say: key, onclick: () => this.send(t(key)) }),
    ));
    return h("div", { class: "welcome" }, h("p", { class: "lead", say: "chat.lead" }), h("ul", { class: "starters" }, starters));
  }

  /** An answer that was being given when the page was closed did not end: say so instead of waiting for it. */
  #repair(running) {
    for (const turn of this.#chat.turns) {
      if (turn.role === "assistant" && !turn.outcome && turn !== running?.turn) turn.outcome = "stopped";
    }
  }

  #follow() {
    if (this.#isFollowing) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/^[#>\-\s]{1,20}|[*`]/g, "") || "…";
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
}
