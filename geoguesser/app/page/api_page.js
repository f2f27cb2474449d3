// Shows the OpenAPI file as a page: the endpoints with their fields and responses, and the schemas.
import { byId, makeElement } from "./dom.js";

const COLUMNS = ["Name", "Type", "Meaning"];
const openapi = await (await fetch("/api/openapi.json")).json();
const schemas = openapi.components.schemas;

const getSchemaName = (schema) => schema.$ref.split("/").at(-1);

function describeType(schema) {
  if (!schema) return "";
  if (schema.$ref) return getSchemaName(schema);
  if (schema.anyOf) {
    const types = schema.anyOf.map(describeType);
    return types.filter((type) => type !== "null").join(" or ") + (types.includes("null") ? ", or null" : "");
  }
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${describeType(schema.items) || "values"}`;
  if (schema.contentMediaType || schema.format === "binary") return "file";
  return schema.const ?? schema.type ?? "";
}

function listFields(schema) {
  const { properties = {} } = schema.$ref ? schemas[getSchemaName(schema)] : schema;
  return Object.entries(properties).map(([name, field]) => [name, describeType(field), field.description ?? ""]);
}

function makeTable(columns, lines) {
  const head = makeElement("tr", {}, ...columns.map((column) => makeElement("th", { scope: "col" }, column)));
  const rows = lines.map(([name, ...cells]) =>
    makeElement("tr", {}, makeElement("th", {}, name), ...cells.map((cell) => makeElement("td", {}, cell))));
  const table = makeElement("table", { className: "text" },
    makeElement("thead", {}, head), makeElement("tbody", {}, ...rows));

  // A wide table scrolls, which needs the focus to work by keyboard.
  return makeElement("div", { className: "wide", tabIndex: 0 }, table);
}

function makeOperation(path, method, operation) {
  const parts = [
    makeElement("h2", {}, `${method.toUpperCase()} ${path}`),
    makeElement("p", {}, operation.description ?? ""),
  ];

  const [mediaType, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const parameters = (operation.parameters ?? []).map((parameter) =>
    [parameter.name, describeType(parameter.schema), parameter.description ?? ""]);
  const fields = [...parameters, ...(body ? listFields(body.schema) : [])];
  if (fields.length) {
    parts.push(makeElement("h3", {}, body ? `Fields (${mediaType})` : "Fields"), makeTable(COLUMNS, fields));
  }

  const responses = Object.entries(operation.responses).map(([status, response]) =>
    [status, describeType(Object.values(response.content ?? {})[0]?.schema), response.description]);
  parts.push(makeElement("h3", {}, "Responses"), makeTable(["Status", "Type", "Meaning"], responses));
  return makeElement("section", {}, ...parts);
}

byId("about").textContent = openapi.info.description;
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(methods)) byId("paths").append(makeOperation(path, method, operation));
}

byId("paths").append(makeElement("h2", {}, "Schemas"));
for (const [name, schema] of Object.entries(schemas)) {
  // FastAPI makes schemas of this prefix for forms; their fields are listed with the endpoint.
  if (!schema.properties || name.startsWith("Body_")) continue;
  byId("paths").append(
    makeElement("h3", {}, name),
    makeElement("p", { className: "small muted" }, schema.description ?? ""),
    makeTable(COLUMNS, listFields(schema)),
  );
}
