import { defineConfig } from "vite";
import { licences } from "./licences.js";

const worker = process.env.CELLWORKER_URL ?? "http://127.0.0.1:4000";
const doors = ["/v2", "/results", "/health", "/explorer.json", "/console", "/console.json"];

export default defineConfig({
  base: "./", // a notebook shows the page below a secret path
  plugins: [licences("licences.txt")],
  build: {
    outDir: process.env.CELLWORKER_PAGE ?? "../src/cellworker/local/page/bundle",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the page's policy allows files only
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  server: {
    // `make web-dev`: the page from here, everything else from a worker that runs
    proxy: {
      ...Object.fromEntries(doors.map((path) => [path, { target: worker, changeOrigin: true }])),
      "/socket.io": { target: worker, ws: true, changeOrigin: true },
    },
  },
});
