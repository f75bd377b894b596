// The page /downloads in Chromium: an upload with progress, a video that seeks, a limited download.
//
//     files.mjs ORIGIN
import { chromium } from 'playwright-core';

const [origin] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--autoplay-policy=no-user-gesture-required'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
const errors = [];
page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
page.on('pageerror', (error) => errors.push(error.message));
const ranges = [];
page.on('response', async (response) => {
  if (!response.url().includes('/stream-video/')) return;
  const headers = await response.allHeaders();
  const asked = (await response.request().allHeaders()).range ?? null;
  ranges.push({ status: response.status(), asked, sent: headers['content-range'] ?? null });
});

await page.goto(`${origin}/downloads`);

// The video: its duration is known from the beginning of the file; a seek shows another picture.
const duration = await page.evaluate(() => new Promise((resolve, reject) => {
  const video = document.getElementById('video');
  if (video.readyState >= 1) resolve(video.duration);
  video.addEventListener('loadedmetadata', () => resolve(video.duration));
  video.addEventListener('error', () => reject(new Error(video.error.message)));
}));
const seek = (time) => page.evaluate((time) => new Promise((resolve) => {
  const video = document.getElementById('video');
  video.addEventListener('seeked', () => {
    const canvas = document.createElement('canvas');
    canvas.width = 32;
    canvas.height = 18;
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, 32, 18);
    const { data } = context.getImageData(0, 0, 32, 18);
    resolve({ time: video.currentTime, picture: data.reduce((sum, value, i) => (sum * 31 + value * (i + 1)) % 1e9, 0) });
  }, { once: true });
  video.currentTime = time;
}), time);
const seeks = [await seek(11), await seek(1.5), await seek(7)];
await page.evaluate(() => {
  const video = document.getElementById('video');
  video.muted = true;
  return video.play();
});
await page.waitForFunction(() => document.getElementById('video').currentTime > 7.3);
await page.evaluate(() => document.getElementById('video').pause());

// An upload whose progress is seen on the way: the connection is slowed while it is sent.
const devtools = await context.newCDPSession(page);
const speed = (uploadThroughput) => devtools.send('Network.emulateNetworkConditions',
  { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
await devtools.send('Network.enable');
await speed(2 << 20);
await page.evaluate(() => {
  window.steps = [];
  const bar = document.getElementById('upload-bar');
  setInterval(() => {
    if (bar.value > 0 && bar.value !== window.steps.at(-1)) window.steps.push(bar.value);
  }, 10);
});
await page.setInputFiles('#file', { name: 'Grüße 測試.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(3 << 20, 7) });
await page.waitForFunction(() => /kept at|\d{3} /.test(document.getElementById('upload-state').textContent));
await speed(-1);
const upload = await page.evaluate(() => ({
  steps: window.steps,
  state: document.getElementById('upload-state').textContent,
}));
await page.waitForSelector('#files a');
const listed = await page.evaluate(() => document.querySelector('#files a').textContent);
const saving = page.waitForEvent('download');
await page.click('#files a');
const saved = (await saving).suggestedFilename();

// The limited download: so much that the rate is measured, and another response meanwhile.
await page.selectOption('#rate', '4194304');
await page.click('#limited-start');
await page.waitForFunction(() => document.getElementById('limited-state').textContent.includes(' in '));
const limited = await page.evaluate(() => ({
  state: document.getElementById('limited-state').textContent,
  measured: document.getElementById('measured').textContent,
  other: document.getElementById('other').textContent,
}));
await browser.close();
process.stdout.write(JSON.stringify({ duration, seeks, ranges, upload, listed, saved, limited, errors }));
