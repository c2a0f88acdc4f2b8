// The side: new conversation, pages, conversations kept here, settings. On narrow screens it slides in.
import { fill, h, icon, mark } from "./dom.js";
import { deleteChat, listChats } from "./history.js";
import { shortWhen } from "./i18n.js";

export class Sidebar {
  #current = null;

  constructor({ onSettings, onShortcuts, onDeleted, confirm }) {
    this.onDeleted = onDeleted;
    this.confirm = confirm;
    this.list = h("ul", { class: "chats" });
    this.none = h("p", { class: "none", say: "history.none", hidden: true });
    const close = h("button", { type: "button", class: "quiet only-narrow", sayLabel: "menu.close", onclick: () => this.show(false) }, icon("close"));
    const brand = h("a", { class: "brand", href: "/", data: { route: "" } }, mark(), h("span", null, "Catena"));
    const fresh = h("a", { class: "fresh", href: "/", data: { route: "", new: "" } }, icon("plus"), h("span", { say: "chat.new" }));
    this.links = [pageLink("/receipts", "receipt", "page.receipts"), pageLink("/machine", "machine", "page.machine")];
    const foot = h(
      "div",
      { class: "side-foot" },
      h("button", { type: "button", class: "quiet", id: "open-settings", onclick: onSettings }, icon("gear"), h("span", { say: "settings.title" })),
      h("button", { type: "button", class: "quiet", sayLabel: "shortcuts.title", onclick: onShortcuts }, h("kbd", null, "?")),
    );
    this.element = h(
      "nav",
      { class: "sidebar", id: "sidebar", sayLabel: "nav.label" },
      h("div", { class: "side-head" }, brand, close),
      fresh,
      h("ul", { class: "pages" }, this.links.map((link) => h("li", null, link))),
      h("h2", { class: "side-title", say: "history.title" }),
      this.none,
      this.list,
      foot,
    );
    this.veil = h("div", { class: "veil", hidden: true, onclick: () => this.show(false) });
    this.opener = h(
      "button",
      { type: "button", class: "quiet only-narrow", "aria-expanded": "false", "aria-controls": "sidebar", sayLabel: "menu.open", onclick: () => this.show(true) },
      icon("menu"),
    );
    document.addEventListener("catena:language", () => this.refresh(this.#current));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isShown) {
        event.stopPropagation();
        this.show(false);
      }
    }, true);
  }

  get isShown() {
    return this.element.classList.contains("shown");
  }

  /** Slide in or out (narrow screens only); the rest of the page is inert meanwhile. */
  show(isShown) {
    if (isShown === this.isShown) return;
    this.element.classList.toggle("shown", isShown);
    this.veil.hidden = !isShown;
    this.opener.setAttribute("aria-expanded", String(isShown));
    document.querySelector(".stage").inert = isShown;
    if (isShown) this.element.querySelector("a, button").focus();
    else this.opener.focus();
  }

  /** Redraw the list; `current` is the path that is shown, with the conversation's id after `#`. */
  async refresh(current) {
    this.#current = current;
    const chats = await listChats();
    this.none.hidden = chats.length > 0;
    fill(this.list, chats.map((chat) => this.#row(chat, current)));
    for (const link of this.links) setCurrent(link, current === link.getAttribute("href"));
  }

  #row(chat, current) {
    const href = `/#${chat.id}`;
    const name = h("span", { class: "chat-name" }, chat.title);
    const link = h("a", { href, data: { route: "" } }, name, h("span", { class: "chat-when" }, shortWhen(chat.updatedAt)));
    setCurrent(link, current === href);
    const remove = h(
      "button",
      { type: "button", class: "quiet remove", sayLabel: ["history.delete", { title: chat.title }], onclick: () => this.#remove(chat) },
      icon("trash"),
    );
    return h("li", null, link, remove);
  }

  async #remove(chat) {
    if (!(await this.confirm())) return;
    await deleteChat(chat.id);
    this.onDeleted(chat.id);
    await this.refresh(this.#current);
    (this.list.querySelector("a") || this.element.querySelector(".fresh")).focus();
  }
}

function pageLink(href, symbol, key) {
  return h("a", { href, data: { route: "" } }, icon(symbol), h("span", { say: key }));
}

function setCurrent(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}
