// The codec of the Tahu project (npm sparkplug-payload): one JSON document a line in, one a line out.
// {"encode": PAYLOAD} answers with hexadecimal digits, {"decode": DIGITS} with a payload.
// {"$long": "12"} stands for a 64-bit number, {"$bytes": "00ff"} for bytes.
const readline = require("readline");
const Long = require("long");
const codec = require("sparkplug-payload").get("spBv1.0");

const isObject = (value) => value !== null && typeof value === "object";

function read(value) {
  if (Array.isArray(value)) return value.map(read);
  if (!isObject(value)) return value;
  if ("$long" in value) return Long.fromString(value.$long, !value.$long.startsWith("-"));
  if ("$bytes" in value) return Buffer.from(value.$bytes, "hex");
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, read(part)]));
}

function show(value) {
  if (Long.isLong(value)) return { $long: value.toString() };
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(show);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, show(part)]));
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  const answer = asked.encode
    ? Buffer.from(codec.encodePayload(read(asked.encode))).toString("hex")
    : show(codec.decodePayload(Buffer.from(asked.decode, "hex")));
  console.log(JSON.stringify(answer));
});
