// Applies patches of cell sets as the platform's API does: one line of JSON [classes, patch] in, one line with the outcome out.
import { createInterface } from "node:readline";
import merger from "json-merger";

const METADATA = ["CLM", "CLMPerSample"];
const ofMetadata = item => METADATA.includes(item?.type);

for await (const line of createInterface({ input: process.stdin })) {
  const [classes, patch] = JSON.parse(line);
  const kept = patch.some(step => ofMetadata(step.$append)) ? classes.filter(item => !ofMetadata(item)) : classes;
  let outcome;
  try {
    outcome = { classes: merger.mergeObjects([kept, patch]) };
  } catch (error) {
    outcome = { error: String(error) };
  }
  console.log(JSON.stringify(outcome));
}
