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
    this.devices = h("ul", { class: "sessions" });
    this.sessions = h("ul", { class: "sessions" });
    this.element = h(
      "section",
      { class: "page" },
      h("h1", { tabindex: "-1", say: "page.machine" }),
      h("p", { class: "lead", say: "machine.lead" }),
      this.state,
      this.cards,
      h("h2", { say: "machine.devices" }),
      this.devices,
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

  #draw({ scheduler, machine }) {
    const { sessions, queue, queue_limit: queueLimit } = scheduler;
    const { memory_bytes: memory, memory_free_bytes: free } = machine;
    fill(
      this.cards,
      card("machine.active", countText(total(sessions, "active"))),
      card("machine.waiting", countText(queue), queue / queueLimit),
      card("machine.held", bytesText(total(sessions, "memory_bytes"))),
      card("machine.free", bytesText(free), 1 - free / memory, "machine.used"),
    );
    fill(this.devices, devicesOf(sessions).map((name) => deviceView(name, sessions, machine)));
    fill(this.sessions, sessions.length ? sessions.map(sessionView) : h("li", { class: "none", say: "machine.idle" }));
  }
}

function total(sessions, name) {
  return sessions.reduce((sum, session) => sum + session[name], 0);
}

/** Every device with a model on it, and the processor in any case. */
function devicesOf(sessions) {
  return [...new Set(["cpu", ...sessions.map(({ device }) => device)])];
}

function card(key, value, share = null, shareKey = key) {
  const meter = share === null ? null : h("meter", { min: "0", max: "1", value: Math.min(1, share || 0), sayLabel: shareKey });
  return h("div", { class: "card" }, h("p", { class: "card-value" }, value), h("p", { class: "card-name", say: key }), meter);
}

function deviceView(name, sessions, machine) {
  const own = sessions.filter(({ device }) => device === name);
  const active = total(own, "active");
  const isProcessor = name === "cpu";
  const size = isProcessor
    ? h("span", { say: ["machine.processor", { n: () => countText(machine.cores), memory: bytesText(machine.memory_bytes) }] })
    : h("span", { say: ["machine.holds", { memory: bytesText(total(own, "memory_bytes")) }] });
  return h(
    "li",
    { class: active > 0 ? "busy" : "" },
    isProcessor ? h("strong", { say: "machine.cpu" }) : h("strong", null, name),
    h("span", { class: "row-detail" }, size),
    h("span", { class: "session-state" }, placesOf(active, total(own, "slots"))),
  );
}

/** How many of the places for answers at once are taken. */
function placesOf(active, slots) {
  return h("span", { say: slots ? ["machine.places", { active: () => countText(active), slots: () => countText(slots) }] : "machine.unused" });
}

function sessionView({ model, engine, device, memory_bytes: memory, active, waiting, idle_s: idle }) {
  const quiet = ["machine.quiet", { time: () => secondsText(idle) }];
  const state = active > 0 ? ["machine.busy", { n: active }] : quiet;
  const queued = waiting > 0 ? h("span", { say: ["machine.queued", { n: waiting }] }) : null;
  const parts = [engine, device, memory ? bytesText(memory) : ""];
  return h(
    "li",
    { class: active > 0 ? "busy" : "" },
    h("strong", null, model),
    h("span", { class: "row-detail" }, parts.filter(Boolean).join(" · ")),
    h("span", { class: "session-state" }, h("span", { say: state }), queued && " · ", queued),
  );
}
