// Collects the licence texts of the npm packages whose code is in the bundle.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Returns the folder of the package that a module of node_modules belongs to. */
function packageOf(id) {
  for (let folder = dirname(id); folder.includes("node_modules"); folder = dirname(folder)) {
    const file = join(folder, "package.json");
    if (existsSync(file) && JSON.parse(readFileSync(file, "utf8")).version) return folder;
  }
  return null;
}

function noticeOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} ${version} is bundled and comes without the text of its licence`);
  return { title: `${name} ${version} (${license})`, text: readFileSync(join(folder, file), "utf8").trim() };
}

export function licences(fileName) {
  return {
    name: "licences",
    generateBundle(_options, bundle) {
      const folders = new Set();
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === "chunk" ? Object.keys(chunk.modules) : []) {
          const folder = id.includes("node_modules") ? packageOf(id.replace(/^\0/, "").split("?")[0]) : null;
          if (folder) folders.add(folder);
        }
      }
      const notices = [...folders].map(noticeOf).sort((a, b) => (a.title < b.title ? -1 : 1));
      const head = "The page of cellworker contains code of these packages.\n";
      const source = [head, ...notices.map(({ title, text }) => `${title}\n${"-".repeat(title.length)}\n${text}\n`)].join("\n");
      this.emitFile({ type: "asset", fileName, source });
    },
  };
}
