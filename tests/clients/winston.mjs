// Logs through winston-loki: winston.mjs URL TENANT json|protobuf
import winston from 'winston'
import LokiTransport from 'winston-loki'

const [url, tenant, form] = process.argv.slice(2)
let failed = false
const loki = new LokiTransport({
  host: url,
  json: form === 'json',
  labels: { job: 'winston' },
  headers: { 'X-Scope-OrgID': tenant },
  interval: 3600,
  replaceTimestamp: false,
  onConnectionError: (error) => {
    failed = true
    console.error(error)
  },
})
const logger = winston.createLogger({ transports: [loki] })
logger.info('first é', { count: 5, user: { id: 'u-1' } })
logger.error({ message: 'second', labels: { code: 'E2' } })
await loki.close()
process.exit(failed ? 1 : 0)
