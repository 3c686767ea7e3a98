// Drives admin/viewer/page.mjs in node: a page of elements that only remember, and the real fetch.
// Says on stdout what stands on the page, and what came of the requests that it was told to send.

import { pathToFileURL } from "node:url";

const [folder, address, orders] = process.argv.slice(2);
const { token, sends, find } = JSON.parse(orders);

class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], heard: {}, value: "", hidden: false, id: "" });
  }
  append(...children) {
    for (const child of children) {
      if (!(child instanceof Element) && typeof child !== "string") throw new TypeError(String(child));
    }
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }
  set textContent(text) {
    this.replaceChildren(text);
  }
  get textContent() {
    return this.children.map((one) => (one instanceof Element ? one.textContent : one)).join("");
  }
  addEventListener(kind, listener, { once = false } = {}) {
    (this.heard[kind] ??= []).push({ listener, once });
  }
  async dispatch(kind) {
    const heard = this.heard[kind] ?? [];
    this.heard[kind] = heard.filter(({ once }) => !once);
    for (const { listener } of heard) await listener();
  }
  *all(name) {
    for (const child of this.children) {
      if (!(child instanceof Element)) continue;
      if (child.name === name) yield child;
      yield* child.all(name);
    }
  }
}

const parts = ["version", "about", "token", "find", "operations"];
const known = Object.fromEntries(parts.map((id) => [id, new Element("div")]));
globalThis.document = {
  baseURI: `${address}/docs`,
  createElement: (name) => new Element(name),
  getElementById: (id) => known[id],
};

await import(pathToFileURL(`${folder}/page.mjs`));
const { sample } = await import(pathToFileURL(`${folder}/sample.mjs`));
const shown = [...known.operations.all("details")].filter(({ id }) => id);
for (const one of shown) await one.dispatch("toggle");
known.token.value = token;

const sent = {};
for (const [id, values] of Object.entries(sends)) {
  const details = shown.find((one) => one.id === id);
  for (const row of details.all("tr")) {
    const [name, cell] = row.children;
    const [input] = cell.all("input");
    input.value = values[name.textContent] ?? "";
  }
  if (values.body !== undefined) [...details.all("textarea")][0].value = values.body;
  await [...details.all("button")][0].dispatch("click");
  sent[id] = [...details.all("pre")].map((one) => one.textContent);
}

known.find.value = find;
await known.find.dispatch("input");

const api = await (await fetch(`${address}/openapi.json`)).json();
const samples = {};
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, said] of Object.entries(methods)) {
    const schema = said.requestBody?.content["application/json"].schema;
    if (schema) samples[`${method} ${path}`] = sample(schema, api.components.schemas);
  }
}
console.log(
  JSON.stringify({
    version: known.version.textContent,
    operations: Object.fromEntries(shown.map((one) => [one.id, one.textContent])),
    found: shown.filter(({ hidden }) => !hidden).map(({ id }) => id),
    sent,
    samples,
  }),
);
