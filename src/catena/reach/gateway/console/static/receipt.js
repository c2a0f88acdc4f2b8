// The page of one receipt: what it proves in plain words, the chain, what was checked and by whom, how to check again.
import { getJson } from "./api.js";
import { badge, chainPicture, STAGES } from "./chain.js";
import { download, fill, h, icon } from "./dom.js";
import { findAnswer } from "./history.js";
import { knows, t, whenText } from "./i18n.js";
import { checkProof, isAnswerRecorded } from "./proof.js";
import { factList, reasonText } from "./facts.js";
import { errorBox } from "./turn.js";

const OPEN_EVERY_MS = 1500;

export class ReceiptPage {
  #timer = null;
  #isShown = false;

  constructor(receipt) {
    this.receipt = receipt;
    this.body = h("div", { class: "receipt-body" });
    this.element = h(
      "article",
      { class: "page receipt" },
      h("p", { class: "crumb" }, h("a", { href: "/receipts", data: { route: "" } }, icon("back"), h("span", { say: "page.receipts" }))),
      h("h1", { tabindex: "-1" }, h("span", { say: "receipt.title" })),
      h("p", { class: "receipt-id" }, h("code", null, receipt)),
      this.body,
    );
    this.redraw = () => this.seen && this.draw();
  }

  async enter() {
    this.#isShown = true;
    document.addEventListener("catena:language", this.redraw);
    fill(this.body, h("p", { class: "sign", role: "status" }, h("span", { class: "pulse", "aria-hidden": "true" }), h("span", { say: "receipt.checking" })));
    await this.#show();
  }

  /** Look and draw; while the answer is still being given, look again. */
  async #show() {
    try {
      this.seen = await this.#look();
    } catch (error) {
      fill(this.body, errorBox(error.status === 404 ? { code: "receipt_unknown" } : error));
      return;
    }
    this.draw();
    const isOpen = this.seen.opened && !this.seen.closed;
    if (isOpen && this.#isShown) this.#timer = setTimeout(() => this.#show(), OPEN_EVERY_MS);
    else document.dispatchEvent(new CustomEvent("catena:say", { detail: `verdict.${this.seen.verdict}` }));
  }

  leave() {
    this.#isShown = false;
    clearTimeout(this.#timer);
    document.removeEventListener("catena:language", this.redraw);
  }

  /** Ask the machine for its trace and the proof, then check the proof here. */
  async #look() {
    const base = `/catena/v1/receipts/${encodeURIComponent(this.receipt)}`;
    const [trace, proof, own] = await Promise.all([getJson(`${base}/trace`), getJson(`${base}/proof?salt=1`), findAnswer(this.receipt)]);
    const { verifier_key: key } = await getJson("/catena/v1/key");
    const checked = await checkProof(proof, this.receipt, key);
    if (own && checked.closed) checked.checks.push(await compareAnswer(proof, checked.closed, own.turn));
    if (checked.opened) checked.checks.push(compareAccount(trace, checked));
    const links = STAGES.map((stage) => trace.links.find((link) => link.stage === stage)).filter(Boolean);
    return { trace, proof, own, links, ...checked, verdict: verdictOf(links, checked) };
  }

  draw() {
    const { links, verdict, own } = this.seen;
    fill(
      this.body,
      this.#verdict(),
      chainPicture(links),
      h("h2", { say: "receipt.links" }),
      h("ol", { class: "links" }, links.map(linkView)),
      this.#checks(),
      meaning(verdict),
      this.#again(),
      own && h("p", null, h("a", { class: "plain", href: `/#${own.chat.id}`, data: { route: "" } }, icon("back"), h("span", { say: "receipt.toChat" }))),
    );
  }

  #verdict() {
    const { verdict, opened, closed } = this.seen;
    const state = { good: "verified", bad: "failed", partial: "not_recorded" }[verdict];
    const title = h("p", { class: "verdict-title" }, badge(state), h("strong", { say: `verdict.${verdict}` }));
    const story = opened ? h("p", { class: "story" }, storyOf(opened, closed)) : null;
    return h("section", { class: `verdict ${state}`, sayLabel: "receipt.verdict" }, title, story, h("p", { class: "help", say: `verdictText.${verdict}` }));
  }

  #checks() {
    const { checks, links } = this.seen;
    const own = checks.map(({ name, state, why, size, keyName }) => h(
      "li",
      null,
      badge(state),
      h("div", null,
        h("p", { class: "check-name", say: [`check.${name}`, { size: size ?? "", name: keyName ?? "" }] }),
        why && h("p", { class: "help", say: knows(why) ? why : "proof.malformed" })),
    ));
    const machine = links.map(({ stage, state }) => h("li", null, badge(state), h("p", { class: "check-name", say: `machineCheck.${stage}` })));
    return h(
      "div",
      { class: "checks" },
      h("section", null, h("h2", { say: "checks.page" }), h("p", { class: "help", say: "checks.pageText" }), h("ul", null, own)),
      h("section", null, h("h2", { say: "checks.machine" }), h("p", { class: "help", say: "checks.machineText" }), h("ul", null, machine)),
    );
  }

  #again() {
    const name = `proof-${this.receipt}.json`;
    const save = h(
      "button",
      { type: "button", class: "primary", id: "download-proof", onclick: () => this.#download(name) },
      icon("download"),
      h("span", { say: "again.download" }),
    );
    return h(
      "section",
      { class: "again" },
      h("h2", { say: "again.title" }),
      h("p", { say: "again.text" }),
      h("ol", { class: "steps" },
        h("li", null, h("p", { say: "again.step1" }), save, h("p", { class: "help", say: "again.or" }), command(`catena audit prove ${this.receipt} -o ${name}`)),
        h("li", null, h("p", { say: "again.step2" }), command(`python -m catena.watch.verifier ${name} --key verifier.vkey`))),
      h("p", { class: "help", say: "again.key" }),
    );
  }

  /** Without the salt: whoever gets the file shall not be able to try out texts. */
  #download(name) {
    const { salt: _, ...proof } = this.seen.proof;
    download(name, `${JSON.stringify(proof, null, 2)}\n`);
  }
}

/** What the page checked may only worsen what the machine says, never better it. */
function verdictOf(links, { checks, opened }) {
  const states = [...links, ...checks].map(({ state }) => state);
  if (states.includes("failed") || checks.length === 0) return "bad";
  const needed = ["tree", "records", "signature"];
  const isProved = opened && needed.every((name) => checks.some((check) => check.name === name && check.state === "verified"));
  const isWatched = ["watched", "reached"].every((stage) => links.some((link) => link.stage === stage && link.state === "verified"));
  return isProved && isWatched ? "good" : "partial";
}

/** Whether what the machine tells of the links is what its proved records say. */
function compareAccount(trace, { opened, closed }) {
  const told = Object.fromEntries(trace.links.map(({ stage, facts }) => [stage, facts || {}]));
  const pairs = [
    [told.reached?.decision, opened.decision.outcome],
    [told.reached?.["question digest"], opened.question_digest],
    [told.stored?.digest, opened.decision.model_digest],
    [told.run?.["answer digest"], closed?.answer_digest],
    [told.run?.outcome, closed?.outcome],
  ];
  const isSame = trace.receipt === opened.receipt && pairs.every(([said, proved]) => !said || said === proved);
  return { name: "account", state: isSame ? "verified" : "failed", why: isSame ? null : "check.accountDiffers" };
}

async function compareAnswer(proof, closed, turn) {
  try {
    const isSame = await isAnswerRecorded(proof, closed, turn);
    if (isSame === null) return { name: "answer", state: "not_recorded", why: proof.salt ? "check.answerCut" : "check.answerNoSalt" };
    return { name: "answer", state: isSame ? "verified" : "failed", why: isSame ? null : "check.answerChanged" };
  } catch {
    return { name: "answer", state: "failed", why: "proof.malformed" };
  }
}

/** One sentence per fact that the proved records hold; nothing here comes from anywhere else. */
function storyOf(opened, closed) {
  const { outcome, model } = opened.decision;
  const parts = [t("story.asked", { when: whenText(opened.at_ns) })];
  parts.push(t(knows(`story.${outcome}`) ? `story.${outcome}` : "story.other", { model, outcome }));
  if (!closed) parts.push(t("story.open"));
  else if (outcome !== "refuse") parts.push(t(`story.end.${closed.outcome}`));
  if (outcome === "local") parts.push(t("story.private"));
  return parts.join(t("story.between"));
}

function linkView({ stage, state, facts, reason }) {
  return h(
    "li",
    { class: `link ${state}` },
    h("span", { class: "link-mark", "aria-hidden": "true" }),
    h("div", { class: "link-text" },
      h("h3", null, h("span", { say: `stage.${stage}` }), " ", badge(state)),
      h("p", { say: `stageText.${stage}` }),
      reasonText(reason),
      factList(facts)),
  );
}

function meaning(verdict) {
  const proves = ["proves.1", "proves.2", "proves.3"].map((key) => h("li", { say: key }));
  const not = ["provesNot.1", "provesNot.2", "provesNot.3"].map((key) => h("li", { say: key }));
  return h(
    "div",
    { class: "meaning" },
    verdict === "bad" ? null : h("section", null, h("h2", { say: "proves.title" }), h("ul", { class: "does" }, proves)),
    h("section", null, h("h2", { say: "provesNot.title" }), h("ul", { class: "does-not" }, not)),
  );
}

function command(text) {
  const copy = h(
    "button",
    {
      type: "button",
      class: "quiet small",
      sayLabel: "copy",
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        document.dispatchEvent(new CustomEvent("catena:say", { detail: "copied" }));
      },
    },
    icon("copy"),
  );
  return h("div", { class: "command" }, h("code", { class: "scroll", tabindex: "0" }, text), copy);
}
