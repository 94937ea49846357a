// Verifies deliveries of webhooks with the reference library of Standard Webhooks and with OpenAI's client, as receivers do.
//
//   node webhooks.mjs DELIVERIES.json SECRETS.json
//
// DELIVERIES.json is a list of {headers, body}, SECRETS.json {"valid": [...], "wrong": "whsec_..."}. It prints how many were
// verified, and how many forgeries were refused, and fails at the first that is not as it should be.
import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'
import OpenAI from 'openai'

const deliveries = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const secrets = JSON.parse(readFileSync(process.argv[3], 'utf8'))

const verifiers = {
  standardwebhooks: async (body, headers, secret) => new Webhook(secret).verify(body, headers),
  openai: async (body, headers, secret) => new OpenAI({ apiKey: 'none', webhookSecret: secret }).webhooks.unwrap(body, headers),
}

async function refused(what, verify) {
  try {
    await verify()
  } catch (error) {
    if (/verif|signature|timestamp|tolerance|matching/i.test(String(error))) return 1
    throw new Error(`${what} was refused for another reason: ${error}`)
  }
  throw new Error(`${what} was accepted`)
}

let verified = 0
let forgeries = 0
for (const { headers, body } of deliveries) {
  for (const [name, verify] of Object.entries(verifiers)) {
    for (const secret of secrets.valid) { // either of two, while a secret is changed
      const event = await verify(body, headers, secret)
      if (JSON.stringify(event) !== JSON.stringify(JSON.parse(body))) throw new Error(`${name} read something else`)
      verified++
    }
    const tampered = body.replace('"type":"', '"type":"x')
    if (tampered === body) throw new Error('the body has no type')
    forgeries += await refused(`${name}: a tampered body`, () => verify(tampered, headers, secrets.valid[0]))
    forgeries += await refused(`${name}: a wrong secret`, () => verify(body, headers, secrets.wrong))
    forgeries += await refused(`${name}: another id`, () => verify(body, { ...headers, 'webhook-id': 'msg_other' }, secrets.valid[0]))
    const old = new Date(Date.now() - 6 * 60 * 1000) // signed with the right secret, but too long ago
    const replayed = {
      ...headers,
      'webhook-timestamp': String(Math.floor(old / 1000)),
      'webhook-signature': new Webhook(secrets.valid[0]).sign(headers['webhook-id'], old, body),
    }
    forgeries += await refused(`${name}: an old timestamp`, () => verify(body, replayed, secrets.valid[0]))
  }
}
console.log(JSON.stringify({ verified, forgeries }))
