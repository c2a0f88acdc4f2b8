// This machine: what it has, what is loaded, what is being done; asked for only while somebody looks.
import { getJson } from "./api.js";
import { fill, h } from "./dom.js";
import { bytesText, countText, secondsText } from "./i18n.js";
import { errorBox } from "./turn.js";

const EVERY_MS = 2000;

export class MachinePage {
  #timer = null;
  #isShown = false;

  constructor() {
    this.state = h("div", { role: "status", class: "machine-state" });
    this.cards = h("div", { class: "cards" });
    this.sessions = h("ul", { class: "sessions" });
    this.element = h(
      "section",
      { class: "page" },
      h("h1", { tabindex: "-1", say: "page.machine" }),
      h("p", { class: "lead", say: "machine.lead" }),
      this.state,
      this.cards,
      h("h2", { say: "machine.sessions" }),
      this.sessions,
    );
    this.onVisible = () => this.#ask();
  }

  enter() {
    this.#isShown = true;
    document.addEventListener("visibilitychange", this.onVisible);
    document.addEventListener("catena:language", this.onVisible);
    this.#ask();
  }

  leave() {
    this.#isShown = false;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.onVisible);
    document.removeEventListener("catena:language", this.onVisible);
  }

  async #ask() {
    clearTimeout(this.#timer);
    if (!this.#isShown || document.hidden) return;
    try {
      this.#draw(await getJson("/catena/v1/status"));
      if (this.state.hasChildNodes()) fill(this.state);
    } catch (error) {
      fill(this.state, errorBox(error));
    }
    clearTimeout(this.#timer);
    if (this.#isShown) this.#timer = setTimeout(() => this.#ask(), EVERY_MS);
  }

  #draw(status) {
    const scheduler = status.scheduler || status;
    const sessions = scheduler.sessions || [];
    const machine = status.machine || {};
    const active = sessions.reduce((total, session) => total + (session.active || 0), 0);
    const waiting = sessions.reduce((total, session) => total + (session.waiting || 0), 0);
    const held = sessions.reduce((total, session) => total + (session.memory_bytes || 0), 0);
    fill(
      this.cards,
      card("machine.active", countText(active)),
      card("machine.waiting", countText(scheduler.queue ?? scheduler.queue_length ?? waiting)),
      card("machine.held", bytesText(held), machine.memory_bytes ? held / machine.memory_bytes : null),
      machine.cores ? card("machine.cores", countText(machine.cores)) : null,
      machine.memory_free_bytes ? card("machine.free", bytesText(machine.memory_free_bytes)) : null,
    );
    fill(this.sessions, sessions.length ? sessions.map(sessionView) : h("li", { class: "none", say: "machine.idle" }));
  }
}

function card(key, value, share = null) {
  const meter = share === null ? null : h("meter", { min: "0", max: "1", value: share, sayLabel: key });
  return h("div", { class: "card" }, h("p", { class: "card-value" }, value), h("p", { class: "card-name", say: key }), meter);
}

function sessionView(session) {
  const { model, engine, device, memory_bytes: memory, active = 0, idle_s: idle = 0 } = session;
  const state = active > 0 ? h("span", { say: ["machine.busy", { n: active }] }) : h("span", { say: ["machine.quiet", { time: () => secondsText(idle) }] });
  return h(
    "li",
    { class: active > 0 ? "busy" : "" },
    h("strong", null, typeof model === "string" ? model : model?.name || ""),
    h("span", { class: "row-detail" }, [engine, device, memory ? bytesText(memory) : ""].filter(Boolean).join(" · ")),
    h("span", { class: "session-state" }, state),
  );
}
