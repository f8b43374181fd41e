// Devices of Zigbee2MQTT made of its own device library (npm zigbee-herdsman-converters), by seed.
// One JSON document a line: name, model, vendor, what it exposes as bridge/devices lists it, a state
// as it publishes it (numbers inside their range, some null), and every value of that state with
// its path, unit and type, worked out here by a walk of its own.
const fs = require("fs");
const path = require("path");
const library = require("zigbee-herdsman-converters");

const count = Number(process.argv[2]);
let seed = Number(process.argv[3]);
const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
const choice = (list) => list[Math.floor(random() * list.length)];

const folder = path.join(path.dirname(require.resolve("zigbee-herdsman-converters")), "devices");
const files = fs.readdirSync(folder).filter((one) => one.endsWith(".js") && one !== "index.js");
const models = files.sort().flatMap((file) => require(path.join(folder, file)).definitions || []);

function value(one) {
  if (random() < 0.05) return null;
  if (one.type === "numeric") {
    const low = one.value_min ?? 0;
    return Math.round((low + random() * ((one.value_max ?? 100) - low)) * 100) / 100;
  }
  if (one.type === "binary") return random() < 0.5 ? one.value_on : one.value_off;
  return one.type === "enum" ? choice(one.values) : "text";
}

const KEPT = ["type", "property", "unit", "access", "value_on", "value_off"];
const plain = (list) =>
  list.map((one) => {
    const kept = Object.fromEntries(KEPT.filter((name) => name in one).map((name) => [name, one[name]]));
    return one.features ? { ...kept, features: plain(one.features) } : kept;
  });

function fill(list, prefix, state, values) {
  for (const one of list) {
    if (one.features) {
      const inner = one.property ? (state[one.property] ??= {}) : state;
      fill(one.features, one.property ? `${prefix}${one.property}.` : prefix, inner, values);
    } else if (["numeric", "binary", "enum", "text"].includes(one.type)) {
      state[one.property] = value(one);
      values[prefix + one.property] = {
        value: state[one.property], unit: one.unit ?? "", type: one.type, on: one.value_on, off: one.value_off,
      };
    }
  }
}

for (let at = 1; at <= count; at += 1) {
  const model = library.prepareDefinition(choice(models));
  const made = typeof model.exposes === "function" ? model.exposes({ isDummyDevice: true }, {}) : model.exposes;
  const exposes = plain(made);
  const state = {};
  const values = {};
  fill(made, "", state, values);
  const name = `0x${at.toString(16).padStart(16, "0")}`;
  console.log(JSON.stringify({ name, model: model.model, vendor: model.vendor, exposes, state, values }));
}
