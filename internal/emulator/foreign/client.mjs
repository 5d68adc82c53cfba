// A small program on the official JavaScript SDK, unmodified, with an emulator as its cloud.
//
//     node client.mjs URLS USERS TOKEN
//
// URLS is the JSON of the emulator's addresses. It fetches the datafile (with the token, if it isn't empty), and for each of
// so many users fetches segments, decides all flags, tracks a conversion and sends an ODP event. It prints the decisions as JSON.
// The SDK is found through SORTITION_FOREIGN_SDK, the path of its package.

import { createRequire } from "node:module";

const require = createRequire(process.env.SORTITION_FOREIGN_SDK + "/package.json");
const sdk = require("@optimizely/optimizely-sdk");

const urls = JSON.parse(process.argv[2]);
const users = Number(process.argv[3]);
const token = process.argv[4];

// The SDK's own dispatcher; only scheme and host are others.
const eventDispatcher = {
  dispatchEvent(event) {
    const url = new URL(event.url);
    return sdk.eventDispatcher.dispatchEvent({ ...event, url: urls.base + url.pathname + url.search });
  },
};

const client = sdk.createInstance({
  projectConfigManager: sdk.createPollingProjectConfigManager({
    sdkKey: urls.sdk_key,
    urlTemplate: (token ? urls.auth_datafile : urls.datafile).replace("{sdk_key}", "%s"),
    datafileAccessToken: token || undefined,
  }),
  eventProcessor: sdk.createBatchEventProcessor({ batchSize: 10, flushInterval: 500, eventDispatcher }),
  odpManager: sdk.createOdpManager({ eventBatchSize: 10, eventFlushInterval: 1000 }),
  logger: sdk.createLogger({ level: sdk.ERROR, logHandler: { log: (_level, message) => console.error(message) } }),
  cmab: { predictionEndpointTemplate: urls.predict.replace("{}", "%s") },
});
await client.onReady();

const found = {};
for (let i = 0; i < users; i++) {
  const attributes = { age: 20 + (i % 50) };
  if (i % 2) attributes.plan = "gold";
  const user = client.createUserContext(`user-${i}`, attributes);
  const fetched = await user.fetchQualifiedSegments();
  const decisions = {};
  for (const [key, d] of Object.entries(await user.decideAllAsync())) {
    decisions[key] = { variation: d.variationKey, enabled: d.enabled, rule: d.ruleKey, variables: d.variables };
  }
  user.trackEvent("purchase", { revenue: 100 + i, value: 1.5, category: "shoes" });
  client.sendOdpEvent("viewed", "fullstack", new Map([["fs_user_id", `user-${i}`]]), new Map([["page", i]]));
  found[`user-${i}`] = { fetched, segments: user.qualifiedSegments, decisions };
}
await client.close();
process.stdout.write(JSON.stringify(found));
