// A person with a keyboard and no mouse signs in, reads the consent page, unticks one line and allows the rest. Prints what
// was found as JSON: where the browser came back to, and what is wrong with the page.
import { chromium } from 'playwright-core';

const [executablePath, start, until, login, pick, unticks, screenshot] = process.argv.slice(2);
const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath, args: quiet });
const page = await browser.newPage({ ignoreHTTPSErrors: true, viewport: { width: 800, height: 900 } });
const back = new Promise(found => page.on('request', one => one.url().startsWith(until) && found(one.url())));
page.setDefaultTimeout(30_000);

const focused = () => page.evaluate(() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  return {
    name: one.getAttribute('name'), type: one.type, value: one.value, id: one.tagName,
    words: (one.labels?.[0]?.textContent ?? one.textContent ?? '').trim(),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
  };
});
async function tabTo(found) {
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press('Tab');
    const here = await focused();
    if (found(here)) return here;
  }
  throw new Error('the keyboard does not reach it');
}

const enter = () => Promise.all([page.waitForNavigation({ waitUntil: 'load' }), page.keyboard.press('Enter')]);

await page.goto(start);
if ((await focused()).name !== 'login') await tabTo(here => here.name === 'login');
await page.keyboard.type(login);
await tabTo(here => here.name === 'password');
await page.keyboard.type('x');
await enter();

// The provider's own consent, if it asks; then ours.
for (let pages = 0; pages < 5 && !(await page.locator('input[name=question]').count()); pages++) {
  await tabTo(here => here.type === 'submit');
  await enter();
}
await page.locator('input[name=question]').waitFor({ state: 'attached' });
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });

const wrong = await page.evaluate(() => {
  const wrong = [];
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\)$|transparent/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (!text.textContent.trim()) continue;
    const [a, b] = [light(getComputedStyle(text.parentElement).color), light(behind(text.parentElement))].sort((x, y) => y - x);
    // WCAG 2.2, 1.4.3.
    if ((a + 0.05) / (b + 0.05) < 4.5) wrong.push(`contrast: ${text.textContent.trim()}`);
  }
  for (const one of document.querySelectorAll('input:not([type=hidden])')) {
    if (!one.labels?.length || !one.labels[0].textContent.trim()) wrong.push(`no label: ${one.name}`);
  }
  // WCAG 2.2, 2.5.8: what is pressed is 24 by 24 at least, its label included.
  for (const one of document.querySelectorAll('button, label')) {
    const box = one.getBoundingClientRect();
    if (box.height < 24 || box.width < 24) wrong.push(`too small: ${one.textContent.trim()}`);
  }
  if (document.documentElement.lang === '') wrong.push('no language');
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one heading');
  if (!document.querySelector('main')) wrong.push('no main part');
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('wider than the window');
  return wrong;
});

const seen = [];
if (pick) {
  let here = await tabTo(here => (seen.push(here), here.type === 'radio'));
  for (let presses = 0; presses < 20 && !here.words.includes(pick); presses++) {
    await page.keyboard.press('ArrowDown');
    here = await focused();
  }
  if (!(await page.evaluate(() => document.activeElement.checked))) wrong.push('the arrow keys do not choose');
}
const unticked = await tabTo(here => (seen.push(here), here.type === 'checkbox' && here.words.includes(unticks)));
await page.keyboard.press('Space');
if (await page.evaluate(() => document.activeElement.checked)) wrong.push('the space bar does not untick');
await tabTo(here => (seen.push(here), here.type === 'submit' && here.value === 'allow'));
wrong.push(...seen.filter(here => here.id !== 'BODY' && !here.outlined).map(here => `focus cannot be seen: ${here.words}`));
await page.keyboard.press('Enter');
console.log(JSON.stringify({ back: await back, unticked: unticked.words, wrong }));
await browser.close();
