// Drives the npm `cloudflare` client against a management API, and prints what it saw as JSON.
// Argument: JSON with baseURL, token, account, gateway, secret, newSecret.
// A call that should work and fails ends the process with status 1 and the error on stderr.

import Cloudflare from 'cloudflare';

const given = JSON.parse(process.argv[2]);
const client = new Cloudflare({ baseURL: given.baseURL, apiToken: given.token, maxRetries: 0 });
const configs = client.aiGateway.providerConfigs;
const account_id = given.account;
const path = `/accounts/${account_id}/ai-gateway/gateways/${given.gateway}/provider_configs`;

function create(alias, more = {}) {
  const body = { account_id, alias, default_config: false, provider_slug: 'openai', ...more };
  return configs.create(given.gateway, { secret: given.secret, ...body });
}

async function refused(work) {
  try {
    await work;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, errors: error.errors };
  }
  throw new Error('nothing was refused');
}

const made = await create('main', { default_config: true, rate_limit: 10, rate_limit_period: 60 });
await create('second');
await create('third');
const aliases = [];
for await (const one of configs.list(given.gateway, { account_id, per_page: 2 })) {
  aliases.push(one.alias);
}
const changed = await client.put(`${path}/${made.id}`, { body: { secret: given.newSecret } });
const deleted = await client.delete(`${path}/${made.id}`);
console.log(
  JSON.stringify({
    made,
    aliases,
    changed: changed.result,
    deleted: deleted.result,
    missing: await refused(client.delete(`${path}/${made.id}`)),
    duplicate: await refused(create('second')),
  }),
);
