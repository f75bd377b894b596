// Chromium: an EventSource of its own, with the cookie, and the page /mercure as a person uses it.
//
//     mercure_page.mjs ORIGIN TOKEN [SCREENSHOT]
import { chromium } from 'playwright-core';

const [origin, token, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1200, height: 1100 } });
const page = await context.newPage();
const errors = [];
page.on('pageerror', (error) => errors.push(String(error)));
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
await page.goto(`${origin}/mercure`);

// The browser's own client, with a cookie as 0.x and as 1.0 name it.
const own = [];
for (const name of ['mercureAuthorization', '__Secure-mercure_access_token']) {
  await context.addCookies([{
    name, value: token, url: `${origin}/.well-known/mercure`, secure: true, httpOnly: true, sameSite: 'Strict',
  }]);
  own.push(await page.evaluate(async (topic) => {
    const source = new EventSource(`/.well-known/mercure?topic=${encodeURIComponent(topic)}`);
    await new Promise((resolve) => { source.onopen = resolve; });
    const arrived = new Promise((resolve) => {
      source.onmessage = ({ data, lastEventId }) => resolve({ data, lastEventId });
    });
    // With the cookie alone: the page is of the hub's own origin.
    const body = new URLSearchParams({ topic, data: 'a\nb', private: 'on' });
    const response = await fetch('/.well-known/mercure', { method: 'POST', body });
    const id = await response.text();
    const event = await arrived;
    source.close();
    return { status: response.status, id, event };
  }, `https://example.com/${name}`));
  await context.clearCookies();
}

// The page, once as 1.0 and once as 0.x.
const seen = [];
for (const [version, topics, topic] of [
  ['1', 'https://example.com/books/:id', 'https://example.com/books/1'],
  ['0', 'https://example.com/films/{id}', 'https://example.com/films/1'],
]) {
  await page.selectOption('#version', version);
  await page.waitForFunction(() => document.getElementById('token').value.split('.').length === 3);
  await page.fill('#topics', topics);
  await page.click('#follow');
  await page.waitForFunction(() => document.getElementById('follow-state').textContent === 'following');
  await page.fill('#topic', topic);
  await page.fill('#data', `data of ${version}`);
  await page.check('#private');
  await page.click('#publish');
  await page.waitForFunction(
    (text) => document.querySelector('#updates pre')?.textContent === text, `data of ${version}`,
  );
  await page.waitForFunction(() => document.querySelectorAll('#subscribers li').length >= 2);
  seen.push(await page.evaluate(() => ({
    id: document.getElementById('publish-state').textContent,
    shown: document.querySelector('#updates li .meta').textContent,
    subscribers: document.getElementById('subscribers').textContent,
  })));
}
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
await page.click('#leave');
await browser.close();
process.stdout.write(JSON.stringify({ own, seen, errors }));
