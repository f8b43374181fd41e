// An edge node of Sparkplug B by the Tahu project's own client (npm sparkplug-client).
// BROKER: its URL. GROUP and NODE: its names. It is born when it connects and when it is told to
// (Node Control/Rebirth), obeys what is written to its device, and prints each command.
// A line {"device": "d", "data": {"temperature": 22.5}} publishes values by alias alone,
// {"lose": 1} counts messages that are never sent, {"die": "d"} ends a device.
const readline = require("readline");
const { newClient } = require("sparkplug-client");

const own = { load: ["Double", 5.5], count: ["Int32", -7], "Node Control/Rebirth": ["Boolean", false] };
const device = {
  temperature: ["Float", 21.5],
  setpoint: ["Int16", 20],
  fan: ["Boolean", false],
  mode: ["String", "eco"],
  unset: ["Double", null],
};
const names = [...Object.keys(own), ...Object.keys(device)];

const client = newClient({
  serverUrl: process.env.BROKER,
  username: "node",
  password: "node",
  groupId: process.env.GROUP,
  edgeNode: process.env.NODE,
  clientId: process.env.NODE,
  mqttOptions: { reconnectPeriod: 100 },
});

const metric = (values, name, isData) => ({
  ...(isData ? {} : { name }),
  alias: names.indexOf(name),
  type: values[name][0],
  value: values[name][1],
  timestamp: Date.now(),
  ...(name === "temperature" && !isData ? { properties: { engUnit: { type: "String", value: "°C" } } } : {}),
});
const payload = (values, chosen, isData) => ({
  timestamp: Date.now(),
  metrics: chosen.map((name) => metric(values, name, isData)),
});

function beBorn() {
  client.publishNodeBirth(payload(own, Object.keys(own)), {});
  client.publishDeviceBirth("d", payload(device, Object.keys(device)), { compress: true });
  console.log("BORN");
}

let isReady = false;
client.on("birth", () => {
  beBorn();
  if (!isReady) console.log("READY");
  isReady = true;
});
client.on("error", (error) => console.log(`ERROR ${error}`));

client.on("ncmd", (command) => {
  for (const { name, value } of command.metrics) {
    console.log(`NCMD ${name} ${value}`);
    if (name === "Node Control/Rebirth" && value) beBorn();
  }
});
client.on("dcmd", (id, command) => {
  for (const { name, type, value } of command.metrics) {
    console.log(`DCMD ${id} ${name} ${type} ${value}`);
    device[name][1] = value;
    client.publishDeviceData(id, payload(device, [name], true));
  }
});

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { device: id, data = {}, lose = 0, die } = JSON.parse(line);
  const values = id ? device : own;
  for (const [name, value] of Object.entries(data)) values[name][1] = value;
  const changed = payload(values, Object.keys(data), true);
  client.seq += lose;
  if (changed.metrics.length && id) client.publishDeviceData(id, changed);
  if (changed.metrics.length && !id) client.publishNodeData(changed);
  if (die) client.publishDeviceDeath(die, { timestamp: Date.now() });
  console.log("DONE");
});
