// Shows the image of a point that the pointer is at, or that the arrow keys have reached.
(() => {
  const source = document.querySelector('script.points');
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const sprite = document.querySelector('img.sprite');
  const tip = document.querySelector('.tip');
  const tile = tip.querySelector('.tile');
  const text = tip.querySelector('.text');
  let chosen = null;

  function show(circle) {
    if (chosen) chosen.classList.remove('chosen');
    chosen = circle;
    tip.hidden = !circle;
    if (!circle) return;
    circle.classList.add('chosen');
    const plot = circle.closest('.plot');
    if (tip.parentElement !== plot) plot.append(tip);
    const [what, where] = data.texts[circle.dataset.i];
    text.replaceChildren(what, document.createElement('br'), where);
    const place = data.tiles[circle.dataset.i];
    tile.hidden = !sprite || place === undefined;
    if (!tile.hidden) {
      const left = (place % data.columns) * data.px;
      const top = Math.floor(place / data.columns) * data.px;
      tile.style.backgroundImage = `url(${sprite.src})`;
      tile.style.backgroundSize = `${2 * sprite.naturalWidth}px`;
      tile.style.backgroundPosition = `-${2 * left}px -${2 * top}px`;
    }
    const box = circle.getBoundingClientRect();
    const frame = plot.getBoundingClientRect();
    const right = Math.min(box.left - frame.left + 12, frame.width - tip.offsetWidth);
    tip.style.left = `${Math.max(right, 0)}px`;
    tip.style.top = `${box.top - frame.top + 14}px`;
  }

  for (const plot of document.querySelectorAll('.plot')) {
    if (!plot.querySelector('circle[data-i]')) continue;
    plot.tabIndex = 0;
    plot.setAttribute('role', 'group');
    plot.setAttribute('aria-label', 'Map of images: the arrow keys step through the errors');
    plot.addEventListener('pointerover', (event) => {
      if (event.target.dataset.i !== undefined) show(event.target);
    });
    plot.addEventListener('pointerleave', () => show(null));
    let at = -1;
    plot.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === 'Escape') show(null);
      if (!step || !data.errors.length) return;
      event.preventDefault();
      at = (at + step + data.errors.length) % data.errors.length;
      show(plot.querySelector(`circle[data-i="${data.errors[at]}"]`));
    });
  }
})();
