// Puts the page together and follows the address: / and /#id conversations, /receipts, /receipts/{id}, /machine.
import { allAnswering } from "./answering.js";
import { mountAnnouncer } from "./announce.js";
import { ChatPage } from "./chat.js";
import { confirmed, openAccess, openSettings, openShortcuts } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { listenForKeys } from "./keyboard.js";
import { MachinePage } from "./machine.js";
import { Models } from "./models.js";
import { ReceiptPage } from "./receipt.js";
import { ReceiptsPage } from "./receipts.js";
import { Sidebar } from "./sidebar.js";

const RETRY_MS = 3000;

class App {
  #page = null;

  constructor() {
    this.models = new Models();
    this.sidebar = new Sidebar({
      onSettings: () => this.settings(),
      onShortcuts: openShortcuts,
      onDeleted: (id) => id === this.chat.chatId && this.go("/"),
      confirm: () => confirmed("history.deleteOne", "history.deleteOneText", "history.deleteAction"),
    });
    this.chat = new ChatPage(this.models, () => this.#onHistory());
    this.main = h("main", { id: "main", tabindex: "-1" });
    const top = h("header", { class: "topbar" }, this.sidebar.opener, h("span", { class: "spacer" }), this.models.element);
    this.notice = h("div", { class: "notice", role: "status" });
    const stage = h("div", { class: "stage" }, top, this.notice, this.main);
    const skip = h("a", { class: "skip", href: "#main", say: "skip", onclick: (event) => this.#skip(event) });
    document.body.append(skip, this.sidebar.element, this.sidebar.veil, stage);
    mountAnnouncer(document.body);
  }

  start() {
    document.addEventListener("click", (event) => this.#click(event));
    window.addEventListener("popstate", () => this.show());
    document.addEventListener("catena:locked", () => openAccess(() => this.#unlocked()));
    document.addEventListener("catena:language", () => this.#entitle());
    window.addEventListener("beforeunload", () => allAnswering().forEach((answering) => answering.stop()));
    listenForKeys({
      stop: () => (this.chat.isAnswering ? this.chat.stop() : false),
      focus: () => this.#focusComposer(),
      fresh: () => this.go("/"),
      receipt: () => this.#lastReceipt(),
      help: openShortcuts,
    });
    this.#loadModels();
    this.show();
  }

  /** Go to `address` inside the page. */
  go(address) {
    if (address !== location.pathname + location.hash) history.pushState(null, "", address);
    return this.show();
  }

  /** Show what the address names. */
  async show() {
    const { pathname, hash } = location;
    this.sidebar.show(false);
    this.#page?.leave?.();
    if (pathname === "/") {
      this.#page = this.chat;
      await this.chat.open(hash.slice(1));
    } else if (pathname === "/receipts") this.#page = new ReceiptsPage();
    else if (pathname === "/machine") this.#page = new MachinePage();
    else this.#page = new ReceiptPage(decodeURIComponent(pathname.split("/")[2] || ""));
    if (!this.main.contains(this.#page.element)) fill(this.main, this.#page.element);
    this.models.element.hidden = pathname !== "/";
    // A page that scrolls but holds nothing to step to is itself a step for the keyboard.
    this.main.tabIndex = pathname === "/machine" ? 0 : -1;
    this.main.dataset.page = pathname === "/" ? "chat" : "text";
    this.#page.enter?.();
    this.#entitle();
    if (pathname === "/" && window.matchMedia("(pointer: fine)").matches) this.chat.composer.focus();
    else this.#page.element.querySelector("h1")?.focus({ preventScroll: true });
    await this.sidebar.refresh(pathname + hash);
  }

  settings() {
    openSettings(() => this.go("/"));
  }

  #skip(event) {
    event.preventDefault();
    this.main.focus();
  }

  #entitle() {
    const heading = this.#page?.element.querySelector("h1")?.textContent;
    document.title = heading && location.pathname + location.hash !== "/" ? `${heading} · Catena` : t("page.title");
  }

  #click(event) {
    const link = event.target.closest("a[data-route]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    this.go(link.getAttribute("href"));
  }

  #focusComposer() {
    if (location.pathname !== "/") this.go("/").then(() => this.chat.composer.focus());
    else this.chat.composer.focus();
  }

  #lastReceipt() {
    const seals = this.chat.element.querySelectorAll("a.seal");
    if (seals.length === 0) return false;
    return this.go(seals[seals.length - 1].getAttribute("href"));
  }

  /** A first question gives the conversation an address of its own. */
  #onHistory() {
    if (this.#page === this.chat && this.chat.chatId && this.chat.element.dataset.empty === "false") {
      history.replaceState(null, "", `/#${this.chat.chatId}`);
      this.#entitle();
    }
    this.sidebar.refresh(location.pathname + location.hash);
  }

  #unlocked() {
    this.#loadModels();
    this.show();
  }

  async #loadModels() {
    try {
      await this.models.load();
      fill(this.notice);
    } catch (error) {
      if (error.status === 401) return;
      fill(this.notice, h("p", { say: error.status === 0 ? "error.unreachable" : "model.unavailable" }));
      setTimeout(() => this.#loadModels(), RETRY_MS);
    }
  }
}

new App().start();
