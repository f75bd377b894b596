// Two tabs of /chat: what one says the other hears; when it closes, the other is told.
//
//     chat.mjs ORIGIN [SCREENSHOT]
import { chromium } from 'playwright-core';

const [origin, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const errors = [];

async function person(name) {
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (line) => line.type() === 'error' && errors.push(line.text()));
  await page.goto(`${origin}/chat`);
  await page.fill('#room', 'tabs');
  await page.fill('#name', name);
  await page.click('#enter');
  await page.waitForSelector('#state[data-state=open]');
  return page;
}

const texts = (page, selector) => page.$$eval(selector, (items) => items.map((item) => item.lastChild.textContent));
const one = await person('one');
const two = await person('two');
await one.waitForSelector('#log li.note');
await one.fill('#text', 'hello from one');
await one.press('#text', 'Enter');
await two.waitForSelector('#log li:not(.note)');
const heard = await texts(two, '#log li:not(.note)');
const own = (await one.$$('#log li.own')).length;
if (screenshot) await one.screenshot({ path: screenshot });
await one.close();
await two.waitForFunction(() => document.getElementById('log').textContent.includes('one has left'));
await browser.close();
process.stdout.write(JSON.stringify({ heard, own, left: true, errors }));
