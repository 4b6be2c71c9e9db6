// Whether Grafana's LogQL grammar accepts queries: a list of texts in JSON from standard input, a list of booleans out.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-logql";

function accepts(text) {
  let accepted = true;
  parser.parse(text).iterate({ enter: (node) => { if (node.type.isError) accepted = false; } });
  return accepted;
}

const queries = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(queries.map(accepts)));
