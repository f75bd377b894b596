// What Node's fetch and Chromium make of coded bodies.
//
//     coding.mjs ORIGIN SECURE-ORIGIN PATH
//
// The content is expected to be 1000 times `a`, then `b`, and so on.
import { chromium } from 'playwright-core';

const [origin, secure, path] = process.argv.slice(2);
const letter = (at) => 97 + (Math.floor(at / 1000) % 26);
const isRight = (text) => [...text].every((c, at) => c.charCodeAt(0) === letter(at));

const node = {};
for (const coding of ['gzip', 'br']) {
  const response = await fetch(origin + path, { headers: { 'accept-encoding': coding } });
  const text = await response.text();
  node[coding] = {
    coding: response.headers.get('content-encoding'),
    length: text.length,
    right: isRight(text),
  };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
const response = await page.goto(secure + path);
const timing = await page.evaluate(() => {
  const [entry] = performance.getEntriesByType('navigation');
  return { encoded: entry.encodedBodySize, decoded: entry.decodedBodySize };
});
const text = await response.text();
const seen = {
  node,
  chromium: {
    coding: (await response.allHeaders())['content-encoding'],
    length: text.length,
    ...timing,
  },
};
await browser.close();
console.log(JSON.stringify(seen));
