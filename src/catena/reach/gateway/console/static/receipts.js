// The newest receipts of this machine, from its audit log: times, models and outcomes, never a text.
import { getJson } from "./api.js";
import { fill, h } from "./dom.js";
import { shortened } from "./facts.js";
import { knows, whenText } from "./i18n.js";
import { errorBox } from "./turn.js";

const PAGE = 25;

export class ReceiptsPage {
  #oldest = null;

  constructor() {
    this.rows = h("ul", { class: "receipt-list" });
    this.state = h("div", { role: "status" });
    this.more = h("button", { type: "button", class: "plain", say: "receipts.more", hidden: true, onclick: () => this.#load() });
    this.element = h(
      "section",
      { class: "page" },
      h("h1", { tabindex: "-1", say: "page.receipts" }),
      h("p", { class: "lead", say: "receipts.lead" }),
      this.rows,
      this.state,
      this.more,
    );
  }

  enter() {
    return this.#load();
  }

  async #load() {
    const address = `/catena/v1/receipts?limit=${PAGE}${this.#oldest ? `&before=${encodeURIComponent(this.#oldest)}` : ""}`;
    let items;
    try {
      ({ receipts: items, next: this.#oldest } = await getJson(address));
    } catch (error) {
      fill(this.state, errorBox(error));
      return;
    }
    this.rows.append(...items.map(row));
    this.more.hidden = !this.#oldest;
    fill(this.state, this.rows.childNodes.length === 0 && h("p", { class: "none", say: "receipts.none" }));
  }
}

function row({ opened, closed }) {
  const { receipt, at_ns: atNs, decision } = opened;
  const outcome = decision.outcome === "refuse" ? "refused" : closed?.outcome || "open";
  const key = `outcome.${outcome}`;
  const state = { complete: "verified", failed: "failed" }[outcome] || "not_recorded";
  return h(
    "li",
    null,
    h("a", { href: `/receipts/${encodeURIComponent(receipt)}`, data: { route: "" } },
      h("span", { class: "row-main" },
        h("span", { class: "row-title", say: ["receipts.row", { when: () => whenText(atNs) }] }),
        h("span", { class: "row-detail" }, `${decision.model} · `, h("span", { say: `decision.${decision.outcome}` }), ` · ${shortened(receipt)}`)),
      h("span", { class: `outcome ${state}`, say: knows(key) ? key : "outcome.open" })),
  );
}

