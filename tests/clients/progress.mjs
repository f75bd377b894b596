// Two tabs of /progress: one is closed while its work is under way, the other, there before, follows
// the journal and sees what became of that work.
//
//     progress.mjs ORIGIN
import { chromium } from 'playwright-core';

const [origin] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });

const second = await context.newPage();
const following = second.waitForResponse((response) => response.url().includes('/logs/tail'));
await second.goto(`${origin}/progress`);
await following;
// Its own start is in the journal that it follows, or was just before it began to.
await second.waitForFunction(() => document.getElementById('bar').value > 0, undefined, { polling: 50 });

const first = await context.newPage();
// The work takes ten seconds. A browser that has little of the machine may miss all of them, and
// asks for the page once more then.
for (let left = 4; ; left--) {
  await first.goto(`${origin}/progress`);
  try {
    await first.waitForFunction(
      () => /^Progress: [2-9]/.test(document.getElementById('state').textContent),
      undefined,
      { polling: 50, timeout: 12000 },
    );
    break;
  } catch (error) {
    if (left === 0) throw error;
  }
}

const before = await first.evaluate(() => document.getElementById('state').textContent);
const closed = Date.now();
await first.close();
await second.waitForFunction(
  () => document.getElementById('journal').textContent.includes('request cancelled'),
  undefined,
  { polling: 50 },
);
const milliseconds = Date.now() - closed;
const journal = await second.evaluate(() => document.getElementById('journal').textContent);
const state = await second.evaluate(() => document.getElementById('state').textContent);
await browser.close();
process.stdout.write(JSON.stringify({ before, milliseconds, journal, state }));
