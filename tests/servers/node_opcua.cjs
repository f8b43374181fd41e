// A server by node-opcua with a building, changed by lines on standard input.
// PORT: where it listens; NODES: doubles `s=Room<n>.Temp` under Objects/Building; FIRST: namespaces registered before, so that
// the building's has another number; SALT: added to the numeric ids of Objects/Plant/Pump and Objects/Plant/Fan; PKI: its folder.
// {"put": {"Room0.Temp": 1}} sets values, {"fail": ["Room1.Temp"]} makes them BadDeviceFailure. Users: operator / sesame.
const o = require("node-opcua");
const readline = require("readline");

const port = Number(process.env.PORT);
const count = Number(process.env.NODES);
const salt = Number(process.env.SALT || 0);
const modes = o.MessageSecurityMode;
const policies = o.SecurityPolicy;

async function main() {
  const server = new o.OPCUAServer({
    port,
    hostname: "127.0.0.1",
    resourcePath: "/UA/spine",
    maxConnectionsPerEndpoint: 100,
    securityPolicies: [policies.None, policies.Basic256Sha256, policies.Aes128_Sha256_RsaOaep, policies.Aes256_Sha256_RsaPss],
    securityModes: [modes.None, modes.Sign, modes.SignAndEncrypt],
    userManager: { isValidUser: (user, password) => user === "operator" && password === "sesame" },
    serverCertificateManager: new o.OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: process.env.PKI }),
    serverCapabilities: { maxSessions: 200 },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  for (let n = 0; n < Number(process.env.FIRST || 0); n++) space.registerNamespace(`urn:spine:test:before${n}`);
  const namespace = space.registerNamespace("urn:spine:test:building");
  const building = namespace.addFolder("ObjectsFolder", { browseName: "Building" });
  const rooms = new Map();
  for (let n = 0; n < count; n++) {
    const name = `Room${n}.Temp`;
    const place = { componentOf: building, browseName: name, nodeId: `s=${name}` };
    const room = namespace.addVariable({ ...place, dataType: "Double", minimumSamplingInterval: 0 });
    room.setValueFromSource({ dataType: "Double", value: 20 + n });
    rooms.set(name, room);
  }
  const plant = namespace.addFolder("ObjectsFolder", { browseName: "Plant" });
  ["Pump", "Fan"].forEach((browseName, n) => {
    const turning = namespace.addVariable({ componentOf: plant, browseName, nodeId: `i=${9000 + salt + n}`, dataType: "Double" });
    turning.setValueFromSource({ dataType: "Double", value: 100 + n });
  });
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const { put = {}, fail = [] } = JSON.parse(line);
    for (const [name, value] of Object.entries(put)) rooms.get(name).setValueFromSource({ dataType: "Double", value });
    for (const name of fail) rooms.get(name).setValueFromSource({ dataType: "Double", value: 0 }, o.StatusCodes.BadDeviceFailure);
    console.log("DONE");
  });
  await server.start();
  console.log("READY");
}

main();
