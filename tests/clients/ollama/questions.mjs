// Asks a gateway with the official JavaScript client and prints what came, as one JSON object by question.
// Usage: node questions.mjs FOLDER URL, where FOLDER/node_modules holds the client.
import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, host] = process.argv.slice(2);
const entry = path.join(folder, "node_modules", "ollama", "dist", "index.mjs");
const { Ollama } = await import(pathToFileURL(entry).href);
const ollama = new Ollama({ host });

const model = "smollm2-135m-instruct";
const embedder = "bge-small-en-v1.5";
const options = { temperature: 0, seed: 1, num_predict: 12 };
const messages = [{ role: "user", content: "Name the colours of a traffic light." }];
const ask = { model, messages, options };
const add = {
  type: "function",
  function: {
    name: "add",
    description: "Add two numbers",
    parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } }, required: ["a", "b"] },
  },
};

async function all(stream) {
  const parts = [];
  for await (const part of await stream) parts.push(part);
  return parts;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.name, status: error.status_code, message: error.message };
  }
  return null;
}

const questions = {
  version: () => ollama.version(),
  list: () => ollama.list(),
  show: () => ollama.show({ model }),
  chat: () => ollama.chat(ask),
  stream: () => all(ollama.chat({ ...ask, stream: true })),
  generate: () => all(ollama.generate({ model, prompt: messages[0].content, options, stream: true })),
  tools: () => ollama.chat({ ...ask, options: { temperature: 0 }, tools: [add], tool_choice: "required" }),
  format: () =>
    ollama.chat({
      model,
      messages: [{ role: "user", content: "Give me a colour as JSON." }],
      options: { ...options, num_predict: 80 },
      format: "json",
    }),
  embed: () => ollama.embed({ model: embedder, input: ["a cat", "a dog"] }),
  embeddings: () => ollama.embeddings({ model: embedder, prompt: "a cat" }),
  ps: () => ollama.ps(),
  pull: () => all(ollama.pull({ model: embedder, stream: true })),
  create: () => all(ollama.create({ model: "by-script", from: model, system: "Be brief.", stream: true })),
  made: () => ollama.show({ model: "by-script" }),
  copy: () => ollama.copy({ source: "by-script", destination: "by-script-too" }),
  remove: async () => [await ollama.delete({ model: "by-script" }), await ollama.delete({ model: "by-script-too" })],
  unknown: () => failure(ollama.chat({ ...ask, model: "nope" })),
  unknownStream: () => failure(all(ollama.chat({ ...ask, model: "nope", stream: true }))),
  abort: async () => {
    const stream = await ollama.chat({ ...ask, options: { ...options, num_predict: 4000 }, stream: true });
    for await (const part of stream) {
      stream.abort();
      return { first: part };
    }
  },
};

const answers = {};
for (const [name, question] of Object.entries(questions)) {
  answers[name] = await question();
}
console.log(JSON.stringify(answers));
