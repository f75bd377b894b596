// Two windows of /polling: what the first paints, the second sees.
//
//     polling-page.mjs ORIGIN [SCREENSHOT]
import { chromium } from 'playwright-core';

const [origin, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1200, height: 1000 } });
const errors = [];
const open = async () => {
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  await page.goto(`${origin}/polling`);
  return page;
};
const first = await open();
const second = await open();
const pixels = (page) => page.evaluate(() => pixels);

const box = await first.locator('#board').boundingBox();
for (const [x, y] of [[3, 3], [4, 4], [5, 5], [20, 7]]) {
  await first.mouse.click(box.x + ((x + 0.5) * box.width) / 24, box.y + ((y + 0.5) * box.height) / 24);
}
const squares = (text) => [...text].filter((digit) => digit !== '0').length;
await first.waitForFunction(() => painted.size === 0 && [...pixels].filter((d) => d !== '0').length === 4);
await second.waitForFunction(() => [...pixels].filter((digit) => digit !== '0').length === 4);
const told = { painted: await pixels(first), seen: await pixels(second), errors };
told.squares = squares(told.painted);
if (screenshot) {
  await first.screenshot({ path: screenshot, fullPage: true });
  const dark = await browser.newContext({ ignoreHTTPSErrors: true, colorScheme: 'dark', viewport: { width: 420, height: 900 } });
  const page = await dark.newPage();
  await page.goto(`${origin}/polling`);
  await page.waitForFunction(() => pixels.includes('2'));
  await page.screenshot({ path: screenshot.replace('.png', '-dark.png'), fullPage: true });
}
await browser.close();
process.stdout.write(JSON.stringify(told));
