// Logs through pino-loki: pino.mjs URL TENANT
import pino from 'pino'
import { pinoLoki } from 'pino-loki'

const [url, tenant] = process.argv.slice(2)
const stream = pinoLoki({
  host: url,
  headers: { 'X-Scope-OrgID': tenant },
  labels: { job: 'pino' },
  propsToLabels: ['app'],
  batching: { interval: 3600 },
})
const logger = pino(stream)
logger.info({ app: 'shop', meta: { trace: 'abc', n: 7 } }, 'first é')
logger.error({ app: 'shop', err: new Error('no') }, 'second')
stream.end()
