// A BACnet/IP device on node-bacnet (its codec and its transport; the objects are ours): four analog inputs.
// PORT: where it answers. A line of standard input is {"put": {"1": 5}} or {"forget": 1}. It does not know subscriptions.
const Bacnet = require("node-bacnet");
const readline = require("readline");

const { enum: words } = Bacnet;
const INSTANCE = 79;
const inputs = new Map([0, 1, 2, 3].map((instance) => [instance, 0]));
const device = new Bacnet({ interface: "127.0.0.1", port: Number(process.env.PORT), broadcastAddress: "127.0.0.1" });

const tag = words.ApplicationTag;
const REAL = tag.REAL, BITS = tag.BIT_STRING, OBJECT = tag.OBJECTIDENTIFIER, TEXT = tag.CHARACTER_STRING;
const known = words.PropertyIdentifier;

// Gives the property, or the code of the error that says why not.
function property({ type, instance }, id) {
  if (type === words.ObjectType.DEVICE) {
    if (id === known.OBJECT_IDENTIFIER) return [{ type: OBJECT, value: { type, instance: INSTANCE } }];
    if (id === known.OBJECT_NAME) return [{ type: TEXT, value: "Node" }];
    return words.ErrorCode.UNKNOWN_PROPERTY;
  }
  if (type !== words.ObjectType.ANALOG_INPUT || !inputs.has(instance)) return words.ErrorCode.UNKNOWN_OBJECT;
  if (id === known.PRESENT_VALUE) return [{ type: REAL, value: inputs.get(instance) }];
  if (id === known.STATUS_FLAGS) return [{ type: BITS, value: { bitsUsed: 4, value: [0] } }];
  return words.ErrorCode.UNKNOWN_PROPERTY;
}

const classOf = (code) => (code === words.ErrorCode.UNKNOWN_OBJECT ? words.ErrorClass.OBJECT : words.ErrorClass.PROPERTY);

device.on("readProperty", ({ header, invokeId, payload }) => {
  const found = property(payload.objectId, payload.property.id);
  if (Array.isArray(found)) device.readPropertyResponse(header.sender, invokeId, payload.objectId, payload.property, found);
  else device.errorResponse(header.sender, words.ConfirmedServiceChoice.READ_PROPERTY, invokeId, classOf(found), found);
});

device.on("readPropertyMultiple", ({ header, invokeId, payload }) => {
  const values = payload.properties.map(({ objectId, properties }) => ({
    objectId,
    values: properties.map(({ id, index }) => {
      const found = property(objectId, id);
      const value = Array.isArray(found)
        ? found
        : [{ value: { type: "BacnetError", errorClass: classOf(found), errorCode: found } }];
      return { property: { id, index }, value };
    }),
  }));
  device.readPropertyMultipleResponse(header.sender, invokeId, values);
});

device.on("error", (error) => console.log("ERROR", error));
device.on("listening", () => console.log("READY"));

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { put = {}, forget } = JSON.parse(line);
  for (const [instance, value] of Object.entries(put)) inputs.set(Number(instance), value);
  if (forget !== undefined) inputs.delete(forget);
  console.log("DONE");
});
