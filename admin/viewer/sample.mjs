// Examples made from JSON schemas, and schemas said in words. Pure: no page, no network.

const DEEPEST = 6;

/** The schema that a schema means: references followed, null left out of a choice. */
export function meant(schema, schemas) {
  if (schema.$ref) return meant(schemas[schema.$ref.split("/").pop()] ?? {}, schemas);
  const some = (schema.anyOf ?? []).filter((one) => one.type !== "null");
  return some.length === 1 ? { ...meant(some[0], schemas), ...without(schema, "anyOf") } : schema;
}

/** A value that the schema allows: what is required, and of the rest what says something. */
export function sample(schema, schemas, depth = 0) {
  const it = meant(schema, schemas);
  if (it.examples) return it.examples[0];
  if ("const" in it) return it.const;
  if (it.enum) return it.enum[0];
  if (it.default !== undefined && it.default !== null) return it.default;
  if (it.anyOf) return sample(it.anyOf[0], schemas, depth + 1);
  switch (it.type) {
    case "object":
      return objectOf(it, schemas, depth);
    case "array":
      return depth < DEEPEST ? [sample(it.items ?? {}, schemas, depth + 1)] : [];
    case "integer":
    case "number":
      return it.minimum ?? 0;
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return textOf(it);
  }
}

/** One line about a schema: `string or null, 1 to 200 characters`. */
export function words(schema, schemas) {
  const it = meant(schema, schemas);
  const said = [kind(schema, schemas)];
  if (it.enum) said.push(`one of ${it.enum.map((one) => JSON.stringify(one)).join(", ")}`);
  if (it.format) said.push(it.format);
  if (it.pattern) said.push(`matching ${it.pattern}`);
  said.push(...bounds(it.minLength, it.maxLength, "characters"));
  said.push(...bounds(it.minItems, it.maxItems, "items"));
  said.push(...bounds(it.minimum, it.maximum, ""));
  if (it.default !== undefined) said.push(`default ${JSON.stringify(it.default)}`);
  return said.join(", ");
}

/** [name, schema, required] of every property, through references and into a list's items. */
export function fields(schema, schemas) {
  const it = meant(schema, schemas);
  if (it.type === "array") return fields(it.items ?? {}, schemas);
  const required = new Set(it.required ?? []);
  return Object.entries(it.properties ?? {}).map(([name, one]) => [name, one, required.has(name)]);
}

function objectOf(it, schemas, depth) {
  const made = {};
  if (depth >= DEEPEST) return made;
  for (const [name, one, required] of fields(it, schemas)) {
    const known = meant(one, schemas);
    const telling = required || (!("default" in known) && depth === 0);
    if (telling) made[name] = sample(one, schemas, depth + 1);
  }
  return made;
}

function textOf(it) {
  if (it.format === "date-time") return "2030-01-01T00:00:00Z";
  if (it.pattern?.includes("0-9") && !it.pattern.includes("a-z")) return "0";
  return it.type === "string" || it.minLength ? "text" : "anything";
}

function kind(schema, schemas) {
  if (schema.anyOf) return schema.anyOf.map((one) => kind(one, schemas)).join(" or ");
  const it = meant(schema, schemas);
  if (it.type === "array") return `list of ${kind(it.items ?? {}, schemas)}`;
  return it.type ?? (it.enum ? "string" : it.anyOf ? kind(it, schemas) : "anything");
}

function bounds(least, most, unit) {
  const from = least ? `from ${least}` : "";
  const to = most === undefined ? "" : `up to ${most}`;
  const said = [from, to, from || to ? unit : ""].filter(Boolean).join(" ");
  return said ? [said] : [];
}

function without(schema, name) {
  const { [name]: _, ...rest } = schema;
  return rest;
}
