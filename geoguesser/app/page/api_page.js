// The API's own OpenAPI file as a page: what can be asked, with which fields, and what comes back.
import { at, make } from "./words.js";

const shape = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(shape).filter((one) => one !== "null").join(" or ") + (schema.anyOf.some((one) => one.type === "null") ? ", or null" : "");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${shape(schema.items) || "values"}`;
  if (schema.contentMediaType || schema.format === "binary") return "file";
  return schema.const ?? schema.type ?? "";
};

const rows = (head, lines) => make("div", { className: "wide", tabIndex: 0 }, make("table", { className: "words" },
  make("thead", {}, make("tr", {}, ...head.map((word) => make("th", { scope: "col" }, word)))),
  make("tbody", {}, ...lines.map((line) => make("tr", {}, ...line.map((cell, column) => make(column ? "td" : "th", {}, cell)))))));

function fields(schema, all) {
  const own = schema.$ref ? all[schema.$ref.split("/").at(-1)] : schema;
  return Object.entries(own.properties ?? {}).map(([name, one]) => [name, shape(one), one.description ?? ""]);
}

function operation(path, method, one, all) {
  const parts = [make("h2", {}, `${method.toUpperCase()} ${path}`), make("p", {}, one.description ?? "")];
  const body = Object.entries(one.requestBody?.content ?? {})[0];
  const given = [...(one.parameters ?? []).map((each) => [each.name, shape(each.schema), each.description ?? ""]),
    ...(body ? fields(body[1].schema, all) : [])];
  if (given.length) parts.push(make("h3", {}, body ? `Fields (${body[0]})` : "Fields"), rows(["Name", "What", "Meaning"], given));
  const answers = Object.entries(one.responses).map(([status, each]) => [status, shape(Object.values(each.content ?? {})[0]?.schema), each.description]);
  parts.push(make("h3", {}, "Answers"), rows(["Status", "What", "Meaning"], answers));
  return make("section", {}, ...parts);
}

const file = await (await fetch("/api/openapi.json")).json();
const all = file.components.schemas;
at("about").textContent = file.info.description;
for (const [path, methods] of Object.entries(file.paths)) {
  for (const [method, one] of Object.entries(methods)) at("paths").append(operation(path, method, one, all));
}
at("paths").append(make("h2", {}, "Forms"));
for (const [name, schema] of Object.entries(all)) {
  if (!schema.properties || name.startsWith("Body_")) continue;
  at("paths").append(make("h3", {}, name), make("p", { className: "small muted" }, schema.description ?? ""), rows(["Name", "What", "Meaning"], fields(schema, all)));
}
