// The MQTT broker aedes on loopback: PORT says where, MODULES where it is installed. MQTT 3.1.1.
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { pathToFileURL } from "node:url";

const installed = createRequire(`${process.env.MODULES}/x.js`).resolve("aedes");
const { Aedes } = await import(pathToFileURL(installed));
const broker = await Aedes.createBroker();
createServer(broker.handle).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("READY"));
