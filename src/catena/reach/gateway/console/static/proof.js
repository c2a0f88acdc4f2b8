// Checks a proof in this browser, with nothing but WebCrypto: RFC 6962 hashing, RFC 9162 inclusion, C2SP signed notes.
// It mirrors catena/watch/verifier.py; where the browser lacks Ed25519, that one step is reported as not checked.

const FORMAT = "catena.proof/1";
const KEY_MEMORY = "catena.verifier-keys";

/** A check that does not hold; the message names which (a key of the dictionary). */
export class ProofError extends Error {}

function ensure(condition, why) {
  if (!condition) throw new ProofError(why);
}

/** Strict base64 to bytes: one text per value. */
export function fromBase64(text) {
  ensure(typeof text === "string", "proof.malformed");
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new ProofError("proof.malformed");
  }
  ensure(btoa(binary) === text, "proof.malformed");
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function join(...pieces) {
  const whole = new Uint8Array(pieces.reduce((total, piece) => total + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

async function sha256(...pieces) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...pieces)));
}

function isEqual(left, right) {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** The root that follows from an entry at `index` of `size` and its inclusion path (RFC 9162, 2.1.3.2). */
export async function inclusionRoot(entry, index, size, path) {
  ensure(Number.isSafeInteger(index) && index >= 0 && index < size, "proof.outside");
  let position = BigInt(index);
  let last = BigInt(size) - 1n;
  let root = await sha256(LEAF, entry);
  for (const sibling of path) {
    ensure(last > 0n && sibling.length === 32, "proof.path");
    if (position & 1n || position === last) {
      root = await sha256(NODE, sibling, root);
      while (!(position & 1n) && position) {
        position >>= 1n;
        last >>= 1n;
      }
    } else root = await sha256(NODE, root, sibling);
    position >>= 1n;
    last >>= 1n;
  }
  ensure(last === 0n, "proof.path");
  return root;
}

/** `name+id+base64(0x01 || public key)` in parts, with the id recomputed. */
export async function parseKey(text) {
  const [name, id, ...rest] = String(text).trim().split("+");
  const encoded = fromBase64(rest.join("+"));
  ensure(name && encoded.length === 33 && encoded[0] === 1, "proof.key");
  const whole = await sha256(new TextEncoder().encode(`${name}\n`), encoded);
  ensure(hex(whole.slice(0, 4)) === id, "proof.key");
  return { name, id: whole.slice(0, 4), bytes: encoded.slice(1) };
}

/** The text of a signed note, its tree head, and the signature of `key` on it. */
export function parseNote(note, key) {
  const at = String(note).lastIndexOf("\n\n");
  ensure(at > 0 && note.endsWith("\n"), "proof.note");
  const text = note.slice(0, at + 1);
  const [origin, size, root, ...rest] = text.split("\n");
  ensure(rest.length >= 1 && /^(0|[1-9]\d{0,15})$/.test(size), "proof.note");
  ensure(origin === key.name, "proof.otherLog");
  const signatures = [];
  for (const line of note.slice(at + 2, -1).split("\n")) {
    const [dash, name, encoded, extra] = line.split(" ");
    ensure(dash === "—" && name && encoded && extra === undefined, "proof.note");
    const bytes = fromBase64(encoded);
    if (name === key.name && isEqual(bytes.slice(0, 4), key.id)) signatures.push(bytes.slice(4));
  }
  ensure(signatures.length === 1, "proof.unsigned");
  return { text, size: Number(size), root: fromBase64(root), signature: signatures[0] };
}

/** true or false; null where this browser does not know Ed25519. */
async function isSigned(key, text, signature) {
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key.bytes, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, imported, signature, new TextEncoder().encode(text));
}

function checkPair(records, receipt) {
  const kinds = records.map((record) => record.type).join();
  ensure(kinds === "open" || kinds === "open,close", "proof.pair");
  ensure(records.every((record) => record.receipt === receipt), "proof.otherReceipt");
  if (records.length === 2) {
    const [opened, closed] = records;
    ensure(closed.opened_index === opened.index && closed.index > opened.index, "proof.pair");
  }
}

/** Run `work`; its error, if it is about the proof, becomes a failed check instead. */
async function check(name, work) {
  try {
    return { name, state: "verified", ...(await work()) };
  } catch (error) {
    if (error instanceof ProofError) return { name, state: "failed", why: error.message };
    return { name, state: "failed", why: "proof.malformed" };
  }
}

/**
 * Everything this page can check by itself about `proof` for `receipt`.
 * Gives {checks: [{name, state, why?}], opened, closed}: the records only if they are in the tree and belong together.
 * Names: records, tree, signature, key; states: verified, failed, not_recorded (here: could not be checked).
 */
export async function checkProof(proof, receipt, verifierKey) {
  const checks = [];
  const found = { checks, opened: null, closed: null };
  let key = null;
  let note = null;
  if (!globalThis.crypto?.subtle) {
    checks.push({ name: "tree", state: "not_recorded", why: "proof.noCrypto" });
    return found;
  }
  const read = await check("tree", async () => {
    ensure(proof && proof.format === FORMAT && Array.isArray(proof.records), "proof.malformed");
    key = await parseKey(verifierKey);
    note = parseNote(proof.checkpoint, key);
    const records = [];
    for (const item of proof.records) {
      const entry = fromBase64(item.entry);
      const root = await inclusionRoot(entry, item.index, note.size, item.path.map(fromBase64));
      ensure(isEqual(root, note.root), "proof.notInTree");
      records.push({ ...JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(entry)), index: item.index });
    }
    return { records, size: note.size };
  });
  checks.push(read);
  if (read.state === "verified") {
    const pair = await check("records", async () => checkPair(read.records, receipt) || {});
    checks.push(pair);
    if (pair.state === "verified") [found.opened, found.closed = null] = read.records;
  }
  if (note) checks.push(await checkSignature(key, note));
  if (key) checks.push(await check("key", async () => rememberKey(key.name, verifierKey)));
  return found;
}

async function checkSignature(key, note) {
  return check("signature", async () => {
    const answer = await isSigned(key, note.text, note.signature);
    ensure(answer !== false, "proof.signature");
    return answer === null ? { state: "not_recorded", why: "proof.noEd25519" } : {};
  });
}

/** Whether this browser has seen another key from this address before; the first one is remembered. */
function rememberKey(name, verifierKey) {
  const text = verifierKey.trim();
  let first = null;
  try {
    first = localStorage.getItem(KEY_MEMORY);
    if (first === null) localStorage.setItem(KEY_MEMORY, text);
  } catch {
    return { state: "not_recorded", why: "proof.noMemory" };
  }
  if (first === null) return { why: "proof.firstKey", keyName: name };
  ensure(first === text, "proof.keyChanged");
  return { keyName: name };
}

/**
 * Whether `turn` (a stored answer) is the text whose salted digest the closing record states; null if it cannot be
 * told: no salt in the proof, or an answer that was cut.
 */
export async function isAnswerRecorded(proof, closed, turn) {
  if (typeof proof.salt !== "string" || !closed?.answer_digest || closed.outcome !== "complete") return null;
  if (turn.outcome !== "complete") return null;
  const choices = [[turn.text, turn.reasoning || "", [], turn.finish]];
  const digest = await sha256(fromBase64(proof.salt), new TextEncoder().encode(JSON.stringify(choices)));
  return closed.answer_digest === `sha256:${hex(digest)}`;
}
