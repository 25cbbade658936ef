// Validates documents with the validators of their makers: reads a JSON array from stdin, each
// {kind, name, document, values?}, prints every problem, and ends with 1 if there is one.
//
// kind is asyncapi, openapi or json-schema. With json-schema, values are {definition, value, valid}: whether a value has to
// fit the definition.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv2020 from "ajv/dist/2020.js";

const problems = [];

async function asyncapi(name, document) {
  const { diagnostics, document: parsed } = await new Parser().parse(JSON.stringify(document));
  for (const { severity, code, message, path } of diagnostics) {
    // 0 is an error, 1 a warning; what is below is advice.
    if (severity <= 1 && code !== "asyncapi-latest-version") problems.push(`${name}: ${path.join("/")}: ${message} (${code})`);
  }
  if (parsed === undefined) problems.push(`${name}: cannot be parsed`);
}

async function openapi(name, document) {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(document);
  if (!valid) problems.push(`${name}: ${JSON.stringify(errors)}`);
  else if (validator.version !== "3.1") problems.push(`${name}: has version ${validator.version}`);
  // The schemas inside are JSON Schema 2020-12, which the validator leaves alone; examples have to fit them.
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ ...document, $id: "document" }, "document", undefined, false);
  const check = (pointer, value) => {
    const at = pointer.map((step) => encodeURIComponent(step.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
    const schema = pointer.reduce((inner, step) => inner[step], document);
    try {
      if (!ajv.validateSchema(schema)) problems.push(`${name}: ${at}: ${ajv.errorsText()}`);
      const validate = ajv.compile({ $ref: `document#/${at}` });
      if (value !== undefined && !validate(value)) problems.push(`${name}: ${at}: ${ajv.errorsText(validate.errors)}`);
    } catch (error) {
      problems.push(`${name}: ${at}: ${error.message}`);
    }
  };
  for (const schema of Object.keys(document.components.schemas)) check(["components", "schemas", schema]);
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const at = ["paths", path, method];
      const contents = [[[...at, "requestBody"], operation.requestBody?.content]];
      for (const [status, { content }] of Object.entries(operation.responses)) {
        contents.push([[...at, "responses", status], content]);
      }
      for (const [place, content] of contents) {
        for (const [type, { example }] of Object.entries(content ?? {})) {
          check([...place, "content", type, "schema"], example);
        }
      }
      (operation.parameters ?? []).forEach((_, place) => check([...at, "parameters", String(place), "schema"]));
    }
  }
}

function jsonSchema(name, document, values) {
  const ajv = new Ajv2020({ strict: true, strictRequired: false, allowUnionTypes: true, validateFormats: false });
  if (!ajv.validateSchema(document)) problems.push(`${name}: ${ajv.errorsText()}`);
  ajv.addSchema(document, "document");
  for (const { definition, value, valid } of values) {
    const validate = ajv.getSchema(`document#/$defs/${definition}`);
    if (validate === undefined) problems.push(`${name}: has no definition ${definition}`);
    else if (validate(value) !== valid) {
      const told = valid ? `does not fit: ${ajv.errorsText(validate.errors)}` : "fits";
      problems.push(`${name}: ${definition}: ${JSON.stringify(value)} ${told}`);
    }
  }
}

for (const { kind, name, document, values } of JSON.parse(readFileSync(0, "utf8"))) {
  if (kind === "asyncapi") await asyncapi(name, document);
  else if (kind === "openapi") await openapi(name, document);
  else if (kind === "json-schema") jsonSchema(name, document, values);
  else problems.push(`${name}: unknown kind ${kind}`);
}
for (const problem of problems) console.log(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
