"""Headless Chromium for tests of pages, driven by the DevTools protocol over a pipe."""

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
PROGRAM = next((path for path in map(shutil.which, NAMES) if path), None)
WHY_SKIPPED = 'Chromium is not installed'
SECONDS = 120.0  # for one answer, on a busy machine
WIDTHS_PX = (400, 1400)
PRINTED_PX = 718  # the text width of an A4 sheet with margins of 1 cm

# Elements that extend beyond the right edge of the page and are not in a box that scrolls.
OVERFLOW = """
(() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > wide + 1)
    .filter(e => !e.parentElement.closest('.scroll, pre') || matchMedia('print').matches)
    .map(e => e.tagName + '.' + e.getAttribute('class') + ': ' + e.textContent.trim().slice(0, 40))
    .slice(0, 5).concat(['scrollWidth ' + document.documentElement.scrollWidth]);
})()
"""

# Texts of figures that extend beyond the figure, so that they are cut off.
CUT_OFF = """
[...document.querySelectorAll('svg text')].filter(text => {
  const [inner, outer] = [text, text.ownerSVGElement].map(e => e.getBoundingClientRect());
  return outer.width && (inner.left < outer.left - 1 || inner.right > outer.right + 1
    || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
}).map(text => text.textContent).slice(0, 5)
"""

# Visible texts whose contrast with the background is less than 4.5 : 1 (WCAG 2.1, level AA).
LOW_CONTRAST = """
(() => {
  const rgba = text => {
    const numbers = text.match(/[0-9.]+/g).map(Number);
    return text.startsWith('color(') ? numbers.slice(-3).map(x => 255 * x) : numbers;
  };
  const light = ([r, g, b]) => [r, g, b]
    .map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
  };
  const bad = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('svg, script, style, [hidden]') || !e.getClientRects().length) continue;
    const [a, b] = [rgba(getComputedStyle(e).color), behind(e)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(e.tagName + ' ' + e.textContent.trim().slice(0, 40) + ' ' + ratio);
  }
  return bad.slice(0, 5);
})()
"""


@dataclasses.dataclass(frozen=True)
class Look:
    """How a page is shown: the width in px, and whether in dark mode or printed."""

    width: int
    dark: bool = False
    printed: bool = False


LOOKS = (
    *(Look(width, dark) for width in WIDTHS_PX for dark in (False, True)),
    Look(PRINTED_PX, printed=True),
    Look(PRINTED_PX, dark=True, printed=True),
)


class Browser:
    """A running Chromium with one tab."""

    def __init__(self, read: int, write: int):
        self._read, self._write = read, write
        self._buffer, self._last = b'', 0
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its result; events that arrive meanwhile are kept."""
        self._last += 1
        message = {'id': self._last, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while (answer := self._receive()).get('id') != self._last:
            self.events.append(answer)
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b''
            if not part:
                raise TimeoutError('Chromium does not answer')
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(message)

    def open(self, path: pathlib.Path) -> None:
        """Loads a page."""
        self.events.clear()
        self.call('Page.navigate', url=path.absolute().as_uri())
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
            self.events.append(self._receive())

    def show(self, look: Look, height: int = 900) -> None:
        """Sets the size of the window, the color scheme and the medium."""
        size = {'width': look.width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
        self.call('Emulation.setDeviceMetricsOverride', **size)
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if look.dark else 'light'}
        medium = 'print' if look.printed else 'screen'
        self.call('Emulation.setEmulatedMedia', media=medium, features=[scheme])

    def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call('Runtime.evaluate', expression=code, returnByValue=True)
        if 'exceptionDetails' in result:
            raise RuntimeError(str(result['exceptionDetails']))
        return result['result'].get('value')

    def screenshot(self, path: pathlib.Path) -> None:
        """Writes a picture of the whole page."""
        data = self.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call('Page.printToPDF', printBackground=False)['data'])

    def messages(self) -> list[str]:
        """The errors and warnings of the console since the page was opened."""
        texts = []
        for event in self.events:
            method, values = event.get('method'), event.get('params', {})
            if method == 'Runtime.exceptionThrown':
                texts.append(str(values['exceptionDetails']))
            elif method == 'Runtime.consoleAPICalled' and values['type'] in ('error', 'warning'):
                texts.append(str(values['args']))
            elif method == 'Log.entryAdded' and values['entry']['level'] in ('error', 'warning'):
                texts.append(values['entry']['text'])
        return texts

    def requests(self) -> list[str]:
        """The addresses that the page asked for, apart from itself and data in it."""
        sent = [e['params'] for e in self.events if e.get('method') == 'Network.requestWillBeSent']
        urls = [one['request']['url'] for one in sent if one.get('type') != 'Document']
        return [url for url in urls if not url.startswith('data:')]

    def faults(self, path: pathlib.Path, looks: Sequence[Look] = LOOKS) -> list[str]:
        """What is wrong with a page: messages, requests, and overflow or low contrast by look."""
        self.show(looks[0])
        self.open(path)
        faults = []
        for look in looks:
            self.show(look)
            faults += [f'{look}: overflow of {one}' for one in self.evaluate(OVERFLOW)]
            faults += [f'{look}: cut off: {one}' for one in self.evaluate(CUT_OFF)]
            faults += [f'{look}: contrast of {one}' for one in self.evaluate(LOW_CONTRAST)]
        faults += [f'console: {one}' for one in self.messages()]
        return faults + [f'request: {one}' for one in self.requests()]


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Starts Chromium without a window; it ends with the block."""
    assert PROGRAM, WHY_SKIPPED
    to_browser, from_browser = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage')
        flags += ('--no-first-run', '--disable-background-networking', '--hide-scrollbars')
        command = [PROGRAM, *flags, '--remote-debugging-pipe', f'--user-data-dir={folder}']
        # Chromium reads commands from descriptor 3 and writes to 4.
        pipes = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
        process = subprocess.Popen(
            ['bash', '-c', pipes, 'bash', *command, 'about:blank'],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Browser(from_browser[0], to_browser[1])
        finally:
            process.kill()
            process.wait()
            os.close(from_browser[0])
            os.close(to_browser[1])
