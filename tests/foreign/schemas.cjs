// Validates every case of a file against its schema with ajv: `schemas.cjs NODE_MODULES CASES`. Prints a list of true and false.
const [modules, file] = process.argv.slice(2);
const Ajv = require(`${modules}/ajv/dist/2020.js`).default;
const { schemas, cases } = JSON.parse(require("node:fs").readFileSync(file, "utf8"));
const ajv = new Ajv({ strict: true, strictTypes: false, strictRequired: false });
const validators = Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, ajv.compile(schema)]));
console.log(JSON.stringify(cases.map(({ schema, instance }) => validators[schema](instance))));
