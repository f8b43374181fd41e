// Many Modbus units at one TCP port, by the third-party stack modbus-serial. Every pair of registers
// holds the milliseconds from T0 to its read, so that each reading can be told from every other, and
// its age is known. Each read that is answered is a line of LOG: milliseconds, unit, register, count.
// On standard input: "silent 3" (unit 3 answers nothing), "refuse 4" (exception 2), "heal".
const fs = require("node:fs");
const readline = require("node:readline");
const { ServerTCP } = require("modbus-serial");

const { PORT, UNITS, POINTS, T0, LOG } = process.env;
const served = fs.openSync(LOG, "a");
const silent = new Set();
const refusing = new Set();
const never = new Promise(() => {});
let lines = [];

const exception = (code) => Object.assign(new Error(`exception ${code}`), { modbusErrorCode: code });

function read(start, count, unit) {
  if (unit < 1 || unit > Number(UNITS)) throw exception(11);
  if (silent.has(unit)) return Array(count).fill(never);
  if (refusing.has(unit) || start + count > 2 * Number(POINTS)) throw exception(2);
  const now = Date.now() - Number(T0);
  lines.push(`${now} ${unit} ${start} ${count}\n`);
  return Array.from({ length: count }, (_, nth) => ((start + nth) % 2 ? now & 0xffff : now >>> 16));
}

function write() {
  if (lines.length) fs.writeSync(served, lines.join(""));
  lines = [];
}

const vector = { getMultipleHoldingRegisters: read, getHoldingRegister: () => { throw exception(2); } };
const server = new ServerTCP(vector, { host: "127.0.0.1", port: Number(PORT), unitID: 255 });
server.on("initialized", () => console.log("ready"));
server.on("socketError", () => {});
server.on("serverError", (error) => { console.error(error.message); process.exit(1); });
setInterval(write, 200);
readline.createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [what, unit] = line.split(" ");
    if (what === "silent") silent.add(Number(unit));
    if (what === "refuse") refusing.add(Number(unit));
    if (what === "heal") { silent.clear(); refusing.clear(); }
  })
  .on("close", () => { write(); process.exit(0); });
