// Conversations, kept in this browser's own database on this machine; nothing here ever talks to the network.

const NAME = "catena";
const STORE = "chats";
let opening = null;
let memory = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("updatedAt", "updatedAt");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
  return opening;
}

/** Run `work(objectStore)` in one transaction; where the browser forbids storage, in memory for this page only. */
async function within(mode, work) {
  let transaction;
  try {
    transaction = (await database()).transaction(STORE, mode);
  } catch {
    memory ??= new Map();
    return null;
  }
  return new Promise((resolve, reject) => {
    const request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve({ result: request?.result });
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

/** All conversations, newest first. */
export async function listChats() {
  const found = await within("readonly", (store) => store.getAll());
  const chats = found ? found.result : [...memory.values()];
  return chats.sort((one, other) => other.updatedAt - one.updatedAt);
}

/** One conversation, or undefined. */
export async function loadChat(id) {
  const found = await within("readonly", (store) => store.get(id));
  return found ? found.result : memory.get(id);
}

/** Keep `chat` as it is now. */
export async function saveChat(chat) {
  const copy = structuredClone(chat);
  if (!(await within("readwrite", (store) => store.put(copy)))) memory.set(copy.id, copy);
}

export async function deleteChat(id) {
  if (!(await within("readwrite", (store) => store.delete(id)))) memory.delete(id);
}

export async function deleteAllChats() {
  if (!(await within("readwrite", (store) => store.clear()))) memory.clear();
}

/** The stored answer with this receipt and the conversation it is in, or null. */
export async function findAnswer(receipt) {
  for (const chat of await listChats()) {
    const turn = chat.turns.find((each) => each.receipt === receipt && each.role === "assistant");
    if (turn) return { chat, turn };
  }
  return null;
}

/** A new, empty conversation; it is stored once it holds something. */
export function newChat(model) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0"));
  const now = Date.now();
  return { id: id.join(""), title: "", model, createdAt: now, updatedAt: now, turns: [] };
}
