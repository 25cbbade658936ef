"use strict";
// Shows openapi.json. Everything from the document goes in as text, never as markup.
const page = document.getElementById("page");

function make(name, text, ...inner) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...inner);
  return element;
}

function named(schema, api) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? { name, schema: api.components.schemas[name] } : { schema };
}

function schemaView(schema, api) {
  const found = named(schema, api);
  const title = found.name ? make("p", undefined, make("code", found.name)) : "";
  return make("div", undefined, title, make("pre", JSON.stringify(found.schema, null, 2)));
}

function contents(content, api) {
  const parts = [];
  for (const [type, { schema, example }] of Object.entries(content || {})) {
    parts.push(make("p", undefined, make("code", type)));
    if (schema) parts.push(schemaView(schema, api));
    if (example !== undefined) parts.push(make("p", "Example"), make("pre", JSON.stringify(example, null, 2)));
  }
  return parts;
}

function table(rows) {
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const cell of row) line.append(make("td", undefined, cell));
    body.append(line);
  }
  return make("table", undefined, body);
}

function operationView(path, method, operation, api) {
  const verb = make("span", method);
  verb.className = "method";
  const summary = make("summary", undefined, verb, make("code", path), ` ${operation.summary || ""}`);
  const view = make("details", undefined, summary);
  if (operation.description) view.append(make("p", operation.description));
  if (operation.security && operation.security.length === 0) view.append(make("p", "Open to everybody."));
  const parameters = operation.parameters || [];
  if (parameters.length > 0) {
    view.append(make("h4", "Parameters"), table(parameters.map((one) => [
      make("code", one.name), one.required ? `${one.in}, required` : one.in, one.description || "",
      make("code", JSON.stringify(named(one.schema, api).schema)),
    ])));
  }
  if (operation.requestBody) {
    view.append(make("h4", operation.requestBody.required ? "Body, required" : "Body"));
    view.append(...contents(operation.requestBody.content, api));
  }
  view.append(make("h4", "Answers"));
  for (const [status, response] of Object.entries(operation.responses)) {
    const answer = make("details", undefined, make("summary", `${status} ${response.description}`));
    answer.append(...contents(response.content, api));
    view.append(answer);
  }
  return view;
}

function show(api) {
  document.title = api.info.title;
  page.replaceChildren(make("h1", `${api.info.title} ${api.info.version}`), make("p", api.info.description));
  const groups = new Map((api.tags || []).map((tag) => [tag.name, { tag, views: [] }]));
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const name = (operation.tags || ["other"])[0];
      if (!groups.has(name)) groups.set(name, { tag: { name }, views: [] });
      groups.get(name).views.push(operationView(path, method, operation, api));
    }
  }
  for (const { tag, views } of groups.values()) {
    if (views.length === 0) continue;
    page.append(make("h2", tag.name));
    if (tag.description) page.append(make("p", tag.description));
    page.append(...views);
  }
}

function ask(why) {
  const input = make("input");
  input.type = "password";
  input.autocomplete = "off";
  const button = make("button", "Show");
  button.addEventListener("click", () => load(input.value));
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") load(input.value); });
  page.replaceChildren(make("h1", "API"), make("p", why), make("p", "An API key or token: "), input, " ", button);
  input.focus();
}

async function load(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const response = await fetch("openapi.json", { headers, cache: "no-store" });
    if (response.status === 401 || response.status === 403) ask((await response.json()).detail);
    else if (response.ok) show(await response.json());
    else page.replaceChildren(make("p", `openapi.json: ${response.status}`));
  } catch (error) {
    page.replaceChildren(make("p", `openapi.json: ${error.message}`));
  }
}

load();
