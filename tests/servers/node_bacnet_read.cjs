// Reads one property by node-bacnet and prints its value as JSON: PORT, TYPE, INSTANCE, PROPERTY are numbers of the standard.
const Bacnet = require("node-bacnet");

const { PORT, TYPE, INSTANCE, PROPERTY } = process.env;
const client = new Bacnet({ port: 0, interface: "127.0.0.1", apduTimeout: 5000 });
const place = { type: Number(TYPE), instance: Number(INSTANCE) };
client.readProperty(`127.0.0.1:${PORT}`, place, Number(PROPERTY), (error, found) => {
  if (error) throw error;
  console.log(JSON.stringify(found.values.map(({ value }) => value)));
  client.close();
});
