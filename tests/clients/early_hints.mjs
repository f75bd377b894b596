// A page whose files were hinted at: how Chromium came by each, and what the page says of it.
//
// Chromium follows no hints over a connection whose certificate it merely puts up with, so the server's
// certificate is named by the hash of its public key, which makes it a good one.
//
//     early_hints.mjs ORIGIN PATH
import { createHash } from 'node:crypto';
import tls from 'node:tls';
import { chromium } from 'playwright-core';

const [origin, path] = process.argv.slice(2);
const { hostname, port } = new URL(origin);
const key = await new Promise((resolve, reject) => {
  const socket = tls.connect({ host: hostname, port, servername: hostname, rejectUnauthorized: false }, () => {
    resolve(socket.getPeerX509Certificate().publicKey.export({ type: 'spki', format: 'der' }));
    socket.end();
  });
  socket.on('error', reject);
});
const hash = createHash('sha256').update(key).digest('base64');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    `--ignore-certificate-errors-spki-list=${hash}`],
});
const page = await browser.newPage();
const errors = [];
page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
page.on('pageerror', (error) => errors.push(error.message));
await page.goto(`${origin}${path}`, { waitUntil: 'load' });
await page.evaluate(() => document.fonts.ready);
await page.waitForTimeout(100);
const seen = await page.evaluate(() => {
  const [navigation] = performance.getEntriesByType('navigation');
  return {
    hinted: navigation.firstInterimResponseStart,
    arrived: navigation.finalResponseHeadersStart,
    resources: performance.getEntriesByType('resource')
      .filter((entry) => !entry.name.startsWith('data:'))
      .map((entry) => ({ path: new URL(entry.name).pathname, by: entry.initiatorType, cached: entry.transferSize === 0 })),
    font: document.fonts.check('700 20px "Space Grotesk"'),
    verdict: document.getElementById('verdict')?.textContent ?? null,
  };
});
await browser.close();
process.stdout.write(JSON.stringify({ ...seen, errors }));
