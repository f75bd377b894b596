// The pages /live, /notifications and /orders.
//
//     events-page.mjs ORIGIN [SCREENSHOTS, a prefix]
import { chromium } from 'playwright-core';

const [origin, screenshots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const viewport = { width: 1200, height: 900 };
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport });
const errors = [];
const open = async (path, within = context) => {
  const page = await within.newPage();
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    // What the page asks before there is a session is refused, which the browser tells as well.
    if (message.type() === 'error' && !message.text().includes('401')) errors.push(message.text());
  });
  await page.goto(`${origin}${path}`);
  return page;
};
const told = {};

const live = await open('/live');
const other = await open('/live');
await live.waitForFunction(() => document.getElementById('events-state').classList.contains('open'));
await other.waitForFunction(() => document.getElementById('events-state').classList.contains('open'));
await live.fill('#text', 'hello to all windows');
await live.click('#publish button');
told.published = await other.locator('#events li.new span').first().textContent();
await other.close();
await live.selectOption('#interval', '0.2');
await live.waitForFunction(() => charts.cpu.values.length >= 3 && !document.getElementById('clock').textContent.includes('–'));
told.points = await live.evaluate(() => charts.cpu.values.length);

const center = await open('/notifications');
await center.fill('#user', 'Ada L.');
await center.click('#session button');
await center.waitForFunction(() => document.getElementById('state').textContent === 'connected');
const count = (page, n) => page.waitForFunction((n) => document.querySelectorAll('#list b').length === n, n);
for (const [i, text] of ['first', 'second <b>'].entries()) {
  await center.selectOption('#kind', i === 0 ? 'success' : 'warning');
  await center.fill('#message', text);
  await center.click('#send button');
  await count(center, i + 1);
}
const messages = (page) => page.locator('#list li span').allTextContents();
told.notifications = await messages(center);
await center.reload();
await count(center, 2);
told.again = await messages(center);

const orders = await open('/orders');
await orders.waitForFunction(() => document.querySelectorAll('#ticker span').length >= 5);
await orders.click('#place button');
await orders.waitForFunction(() => document.getElementById('placed').textContent !== '');
told.placed = await orders.textContent('#placed');
told.orders = await orders.evaluate(() => document.getElementById('book').rows.length);

if (screenshots) {
  await live.click('#load');
  await live.waitForTimeout(12000);
  await live.screenshot({ path: `${screenshots}-live.png`, fullPage: true });
  await center.screenshot({ path: `${screenshots}-notifications.png`, fullPage: true });
  await orders.screenshot({ path: `${screenshots}-orders.png`, fullPage: true });
  const dark = await browser.newContext({
    ignoreHTTPSErrors: true, colorScheme: 'dark', viewport: { width: 420, height: 900 },
  });
  for (const name of ['live', 'notifications', 'orders']) {
    const page = await open(`/${name}`, dark);
    await page.waitForTimeout(4000);
    await page.screenshot({ path: `${screenshots}-${name}-dark.png`, fullPage: true });
  }
}
told.errors = errors;
await browser.close();
process.stdout.write(JSON.stringify(told));
