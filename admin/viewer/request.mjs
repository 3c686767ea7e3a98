// What a filled-in form asks for: the URL and options of fetch(), and the same for curl. Pure.

/**
 * The request of an operation `{method, path, parameters, hasBody}` with these values by
 * parameter name. Throws an Error that says which one is missing.
 */
export function asked(base, operation, values, body, token) {
  const url = new URL(pathOf(operation, values).slice(1), base);
  const headers = {};
  for (const parameter of operation.parameters) {
    const value = values[parameter.name] ?? "";
    if (value === "") continue;
    if (parameter.in === "query") url.searchParams.set(parameter.name, value);
    if (parameter.in === "header") headers[parameter.name.toLowerCase()] = value;
  }
  if (token) headers.authorization = `Bearer ${token}`;
  const init = { method: operation.method, headers, cache: "no-store", credentials: "omit" };
  if (operation.hasBody) {
    headers["content-type"] = "application/json";
    init.body = body;
  }
  return { url: url.href, init };
}

/** The request as a line for a shell, with the token left for its environment. */
export function curl({ url, init }) {
  const words = ["curl", "-X", init.method, quoted(url)];
  for (const [name, value] of Object.entries(init.headers)) {
    words.push("-H", name === "authorization" ? '"authorization: Bearer $TOKEN"' : quoted(`${name}: ${value}`));
  }
  if (init.body !== undefined) words.push("-d", quoted(init.body));
  return words.join(" ");
}

function pathOf(operation, values) {
  return operation.path.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name] ?? "";
    // A browser would take dots for folders, and another operation would be asked.
    if (value === "" || /^\.{1,2}$/.test(value)) throw new Error(`${name} is missing`);
    return encodeURIComponent(value);
  });
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
