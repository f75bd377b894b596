// The page /caching in Chromium: every endpoint fetched twice, one asked about again, one changed, one
// purged, and an age that counts.
//
//     caching-page.mjs ORIGIN [SCREENSHOT]
import { chromium } from 'playwright-core';

const [origin, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1300, height: 1000 } });
const errors = [];
const page = await context.newPage();
page.on('pageerror', (error) => errors.push(error.message));
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
await page.goto(`${origin}/caching`);

const section = (url) => page.locator('section').filter({ has: page.locator('h2', { hasText: new RegExp(`^GET ${url}$`) }) });
const press = async (at, button) => {
  await at.locator(`.${button}`).evaluate((element) => element.click());
  await at.locator(`.${button}:not([disabled])`).waitFor();
};
// All at once: one by one, with the mouse, takes minutes on a busy machine.
for (let round = 0; round < 2; round += 1) {
  await page.evaluate(() => document.querySelectorAll('.fetch').forEach((button) => button.click()));
  await page.waitForFunction(() => document.querySelector('.fetch[disabled]') === null);
}
const all = await page.locator('section').all();
await page.waitForFunction(() => [...document.querySelectorAll('.age')].every((at) => at.textContent.startsWith('age ')));
const rows = await Promise.all(all.map(async (at) => ({
  request: await at.locator('.request').textContent(),
  status: await at.locator('.status').textContent(),
  headers: await at.locator('.headers').textContent(),
  age: await at.locator('.age').textContent(),
})));

const post = section('/api/posts/1');
const age = async () => Number(/^age (\d+)/.exec(await post.locator('.age').textContent())?.[1]);
const begun = await age();
await page.waitForFunction((begun) => {
  const at = [...document.querySelectorAll('section')].find((at) => at.querySelector('h2').textContent === 'GET /api/posts/1');
  return Number(/^age (\d+)/.exec(at.querySelector('.age').textContent)?.[1]) > begun;
}, begun);
await press(post, 'revalidate');
const revalidated = await post.locator('.status').textContent();
await press(post, 'change');
const changed = await post.locator('.body').textContent();
await press(post, 'purge');
const purged = await post.locator('.status').textContent();
if (screenshot) {
  await page.screenshot({ path: screenshot, fullPage: true });
  const dark = await browser.newContext({ ignoreHTTPSErrors: true, colorScheme: 'dark', viewport: { width: 420, height: 900 } });
  const narrow = await dark.newPage();
  await narrow.goto(`${origin}/caching`);
  await narrow.locator('.fetch').first().click();
  await narrow.locator('.age', { hasText: 'age' }).first().waitFor();
  await narrow.screenshot({ path: screenshot.replace('.png', '-dark.png') });
}
await browser.close();
process.stdout.write(JSON.stringify({ rows, revalidated, changed, ageCounts: true, purged, errors }));
