// The dashboard in a browser, at a desk and on a phone, light and dark: what axe-core finds, whether a keyboard reaches
// everything and shows where it is, and what is wider than the window. Then a partner is suspended by keyboard alone.
// Prints what is wrong as JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [executablePath, start, partner, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(join(process.env.FHIRWALL_PEERS, 'package.json')).resolve('axe-core/axe.min.js'), 'utf8');
const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath, args: quiet });
const wrong = [];
const seen = { pages: 0, rules: 0 };

async function look(page, name) {
  // Evaluated by the driver, not by the page, whose policy allows no script.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  seen.pages += 1;
  seen.rules = Math.max(seen.rules, found.passes.length);
  for (const one of found.violations) wrong.push(`${name}: ${one.id}: ${one.nodes.map(node => node.html).join(' ')}`);
  if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) wrong.push(`${name}: wider than the window`);
  if (!screenshots) return;
  const { width, height } = await page.evaluate(() => ({ width: innerWidth, height: document.documentElement.scrollHeight }));
  // In pieces that can be looked at.
  for (let top = 0, piece = 0; top < height && piece < 6; top += 1400, piece++) {
    const clip = { x: 0, y: top, width, height: Math.min(1400, height - top) };
    await page.screenshot({ path: join(screenshots, `${name}-${piece}.png`), fullPage: true, clip });
  }
}

const focused = page => page.evaluate(() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  return {
    tag: one.tagName, name: one.getAttribute('name'), href: one.getAttribute('href'),
    words: (one.labels?.[0]?.textContent ?? one.textContent ?? '').trim().replace(/\s+/g, ' '),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    shown: box.width > 0 && box.height > 0 && box.right > 0,
  };
});
async function tabTo(page, found) {
  for (let presses = 0; presses < 400; presses++) {
    await page.keyboard.press('Tab');
    const here = await focused(page);
    if (here.tag !== 'BODY' && !here.outlined) wrong.push(`focus cannot be seen: ${here.tag} ${here.words}`);
    if (here.tag !== 'BODY' && !here.shown) wrong.push(`focus is where nothing is: ${here.tag} ${here.words}`);
    if (found(here)) return here;
  }
  throw new Error('the keyboard does not reach it');
}
const enter = page => Promise.all([page.waitForNavigation({ waitUntil: 'load' }), page.keyboard.press('Enter')]);

for (const [size, width, height] of [['desk', 1280, 900], ['phone', 390, 844]]) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    await page.goto(start);
    await look(page, `overview-${size}-${colorScheme}`);
    await page.evaluate(() => document.querySelectorAll('details').forEach(one => { one.open = true; }));
    await look(page, `overview-open-${size}-${colorScheme}`);
    await Promise.all([page.waitForNavigation({ waitUntil: 'load' }), page.locator('a[href^="/decisions/"]').first().click()]);
    await look(page, `decision-${size}-${colorScheme}`);
    await context.close();
  }
}

// By keyboard alone: the link to the content comes first and leads there, then the partner is suspended.
const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' });
page.setDefaultTimeout(30_000);
await page.goto(start);
await page.keyboard.press('Tab');
const first = await focused(page);
if (first.href !== '#main' || !first.shown || !first.outlined) wrong.push(`the first stop is ${first.words}`);
await page.keyboard.press('Enter');
await page.keyboard.press('Tab');
if (!(await page.evaluate(() => document.querySelector('main').contains(document.activeElement)))) wrong.push('the link to the content leads elsewhere');
await tabTo(page, here => here.tag === 'SUMMARY' && here.words === `Suspend ${partner}`);
await page.keyboard.press('Enter');
await tabTo(page, here => here.name === 'hours');
await tabTo(page, here => here.name === 'reason');
await page.keyboard.type('a leak');
await tabTo(page, here => here.tag === 'BUTTON' && here.words === 'Continue');
await enter(page);
await look(page, 'confirm');
await tabTo(page, here => here.tag === 'BUTTON' && here.words === 'Yes, do it');
await enter(page);
await look(page, 'suspended');
const notice = await page.locator('[role=status]').textContent();
console.log(JSON.stringify({ wrong, notice, ...seen }));
await browser.close();
