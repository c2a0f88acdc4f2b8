// Where a question is written: Enter sends, Shift+Enter breaks the line, and a Chinese input method is left in peace.
import { fill, h, icon } from "./dom.js";

const IME_KEY_CODE = 229;

export class Composer {
  #isAnswering = false;

  constructor({ onSend, onStop }) {
    this.onSend = onSend;
    this.onStop = onStop;
    this.field = h("textarea", {
      id: "question",
      rows: "1",
      sayPlaceholder: "composer.placeholder",
      sayLabel: "composer.label",
      "aria-describedby": "composer-hint",
      autocomplete: "off",
      onkeydown: (event) => this.#key(event),
      oninput: () => this.#resize(),
    });
    this.button = h("button", { type: "submit", class: "send" });
    const form = h("form", { class: "composer", onsubmit: (event) => this.#submit(event) }, this.field, this.button);
    const hint = h("p", { class: "hint", id: "composer-hint" }, h("span", { class: "keys", say: "composer.keys" }), " ", h("span", { say: "composer.hint" }));
    this.element = h("div", { class: "composer-area" }, form, hint);
    this.setAnswering(false);
  }

  focus() {
    this.field.focus();
  }

  setAnswering(isAnswering) {
    const hadFocus = document.activeElement === this.button;
    this.#isAnswering = isAnswering;
    this.button.className = isAnswering ? "send stopping" : "send";
    const key = isAnswering ? "composer.stop" : "composer.send";
    fill(this.button, icon(isAnswering ? "stop" : "send"), h("span", { class: "visually-hidden", say: key }));
    if (hadFocus && !isAnswering) this.focus();
  }

  #submit(event) {
    event.preventDefault();
    if (this.#isAnswering) {
      this.onStop();
      return;
    }
    this.#send();
  }

  /** While an input method composes, Enter chooses a candidate: some browsers tell by keyCode 229 only. */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === IME_KEY_CODE) return;
    event.preventDefault();
    if (!this.#isAnswering) this.#send();
  }

  #send() {
    const text = this.field.value.trim();
    if (!text) {
      this.focus();
      return;
    }
    this.field.value = "";
    this.#resize();
    this.onSend(text);
  }

  #resize() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight + 2, 240)}px`;
  }
}
