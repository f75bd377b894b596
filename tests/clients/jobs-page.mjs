// A job on the page /jobs, and the page anew when it is over.
//
//     jobs-page.mjs ORIGIN [SCREENSHOT]
import { chromium } from 'playwright-core';

const [origin, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1200, height: 800 } });
const errors = [];
const page = await context.newPage();
page.on('pageerror', (error) => errors.push(error.message));
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
await page.goto(`${origin}/jobs`);
const start = async (name, steps) => {
  await page.fill('#name', name);
  await page.fill('#steps', String(steps));
  await page.click('#start button');
};
await start('Playwright', 10);
if (screenshot) {
  await start('Harbour', 20);
  await start('Lighthouse', 60);
  await start('Gull', 300);
  await page.waitForTimeout(4000);
  await page.screenshot({ path: screenshot, fullPage: true });
}
const card = page.locator('section.completed', { hasText: 'Playwright' });
await card.waitFor();
const told = {
  state: await card.locator('small').textContent(),
  bar: await card.locator('progress').evaluate((bar) => bar.value),
};
await page.reload();
await card.waitFor();
told.again = await card.locator('small').textContent();
const image = card.locator('img');
await image.evaluate((img) => img.complete || new Promise((resolve) => img.addEventListener('load', resolve)));
told.width = await image.evaluate((img) => img.naturalWidth);
told.errors = errors;
await browser.close();
process.stdout.write(JSON.stringify(told));
