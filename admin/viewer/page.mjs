// The page at /docs: shows the document operation by operation and sends what is asked for.
// Everything from the document and from answers is put in as text, never as markup.

import { asked, curl } from "./request.mjs";
import { fields, meant, sample, words } from "./sample.mjs";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 4;
const at = (id) => document.getElementById(id);

/** An element with properties and children; a child is an element or a text. */
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** The operations of the document, flat: {id, tag, method, path, parameters, ...}. */
function operationsOf(api) {
  return Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => {
      const said = methods[method];
      const { operationId: id, tags, summary, description, parameters = [], responses } = said;
      const body = said.requestBody?.content["application/json"].schema;
      const row = { id, tag: tags[0], method: method.toUpperCase(), path, summary, description };
      return { ...row, parameters, responses, body, hasBody: body !== undefined };
    }),
  );
}

function operation(row, schemas) {
  const method = make("span", { className: `method ${row.method.toLowerCase()}` }, row.method);
  const title = make("summary", {}, method, make("code", { className: "path" }, row.path));
  title.append(make("span", { className: "dim" }, ` ${row.summary}`));
  const details = make("details", { id: row.id }, title);
  // Filled when it is first opened: a hundred forms at once are slow to lay out.
  details.addEventListener("toggle", () => details.append(...opened(row, schemas)), { once: true });
  return details;
}

function opened(row, schemas) {
  const inputs = {};
  const parts = [make("p", {}, row.description)];
  if (row.parameters.length) parts.push(parameters(row, inputs, schemas));
  let body = null;
  if (row.hasBody) {
    const text = JSON.stringify(sample(row.body, schemas), null, 2);
    body = make("textarea", { value: text, spellcheck: false });
    parts.push(make("h3", {}, "Body"), shape(row.body, schemas), body);
  }
  parts.push(sender(row, inputs, body), make("h3", {}, "Answers"));
  for (const [status, told] of Object.entries(row.responses)) {
    parts.push(answer(status, told, schemas));
  }
  return parts;
}

function parameters(row, inputs, schemas) {
  const lines = row.parameters.map((one) => {
    const input = make("input", { placeholder: one.required ? "required" : "", spellcheck: false });
    inputs[one.name] = input;
    const about = [one.in, words(one.schema, schemas), one.description].filter(Boolean).join(", ");
    const name = make("td", {}, make("code", {}, one.name));
    return make("tr", {}, name, make("td", {}, input), make("td", { className: "dim" }, about));
  });
  return make("table", {}, ...lines);
}

/** The fields of a schema as a list, nested ones below. */
function shape(schema, schemas, depth = 0) {
  const list = make("ul", { className: "fields" });
  if (depth === 0) list.append(make("li", { className: "dim" }, words(schema, schemas)));
  const about = meant(schema, schemas).description;
  if (about && depth === 0) list.append(make("li", { className: "dim" }, about));
  for (const [name, one, required] of fields(schema, schemas)) {
    const line = make("li", {}, make("code", {}, name), required ? "* " : " ");
    line.append(make("span", { className: "dim" }, words(one, schemas)));
    const below = depth < DEEPEST ? fields(one, schemas) : [];
    if (below.length) line.append(shape(one, schemas, depth + 1));
    list.append(line);
  }
  return list;
}

function answer(status, told, schemas) {
  const line = make("summary", {}, make("code", {}, status), ` ${told.description}`);
  const details = make("details", {}, line);
  for (const [type, { schema }] of Object.entries(told.content ?? {})) {
    const example = JSON.stringify(sample(schema, schemas), null, 2);
    details.append(make("span", { className: "dim" }, type), shape(schema, schemas));
    details.append(make("pre", {}, example));
  }
  return details;
}

function sender(row, inputs, body) {
  const out = make("div", { className: "out" });
  const button = make("button", { type: "button" }, "Send");
  button.addEventListener("click", async () => {
    button.disabled = true;
    out.replaceChildren(...(await sent(row, inputs, body)));
    button.disabled = false;
  });
  return make("p", {}, button, out);
}

async function sent(row, inputs, body) {
  try {
    const values = Object.fromEntries(Object.entries(inputs).map(([k, input]) => [k, input.value]));
    const wanted = asked(document.baseURI, row, values, body?.value, at("token").value.trim());
    const response = await fetch(wanted.url, wanted.init);
    const status = make("p", {}, `${response.status} ${response.statusText}`);
    const text = pretty(await response.text());
    return [make("pre", {}, curl(wanted)), status, make("pre", {}, text)];
  } catch (error) {
    return [make("pre", {}, String(error.message))];
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function show(api) {
  const schemas = api.components.schemas;
  const rows = operationsOf(api);
  at("version").textContent = api.info.version;
  at("about").textContent = api.info.description;
  const found = rows.map((row) => [row, operation(row, schemas)]);
  const sections = api.tags.map(({ name, description }) => {
    const own = found.filter(([row]) => row.tag === name).map(([, element]) => element);
    return make("section", {}, make("h2", {}, name), make("p", {}, description), ...own);
  });
  at("operations").replaceChildren(...sections);
  at("find").addEventListener("input", () => {
    const word = at("find").value.trim().toLowerCase();
    for (const [row, element] of found) {
      const text = `${row.method} ${row.path} ${row.id} ${row.summary}`.toLowerCase();
      element.hidden = !text.includes(word);
    }
  });
}

try {
  show(await (await fetch(new URL("openapi.json", document.baseURI))).json());
} catch (error) {
  at("operations").replaceChildren(make("p", {}, `openapi.json: ${error.message}`));
}
