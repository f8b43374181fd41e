// Units of a Modbus/TCP server by modbus-serial, with registers that standard input changes.
// PORT: where it listens. A line {"unit": 1, "put": {"10": 5}} sets holding and input registers,
// {"unit": 1, "forget": [10]} makes them unknown, {"unit": 1, "busy": [10]} makes them answer exception 6.
// A register nobody put is exception 2, a unit without any exception 11.
const { ServerTCP } = require("modbus-serial");
const readline = require("readline");

const units = new Map();

function refuse(code) {
  const error = new Error(`exception ${code}`);
  error.modbusErrorCode = code;
  throw error;
}

function register(address, unit) {
  const known = units.get(unit) ?? refuse(11);
  if (known.busy.has(address)) refuse(6);
  return known.words.get(address) ?? refuse(2);
}

function write(address, word, unit) {
  register(address, unit);
  units.get(unit).words.set(address, word);
}

const vector = {
  getHoldingRegister: register,
  getInputRegister: register,
  setRegister: write,
  getCoil: (address, unit) => Boolean(register(address, unit)),
  getDiscreteInput: (address, unit) => Boolean(register(address, unit)),
  setCoil: (address, isOn, unit) => write(address, isOn ? 1 : 0, unit),
};
const place = { host: "127.0.0.1", port: Number(process.env.PORT), unitID: 0 };
const server = new ServerTCP(vector, place);
server.on("initialized", () => console.log("READY"));
server.on("socketError", () => {});

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { unit, put = {}, forget = [], busy = [] } = JSON.parse(line);
  if (!units.has(unit)) units.set(unit, { words: new Map(), busy: new Set() });
  const known = units.get(unit);
  for (const [address, word] of Object.entries(put)) known.words.set(Number(address), word);
  forget.forEach((address) => known.words.delete(address));
  busy.forEach((address) => known.busy.add(address));
  console.log("DONE");
});
