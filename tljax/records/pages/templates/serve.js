// Sends photographs to the server, one after another, and shows its answers as text.
(() => {
  const drop = document.querySelector('#drop');
  const input = document.querySelector('#files');
  const results = document.querySelector('#results');
  const template = document.querySelector('#result');
  const mostBytes = Number(drop.dataset.mostBytes);
  let last = Promise.resolve();

  function element(kind, text, name) {
    const made = document.createElement(kind);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function picture(one) {
    const figure = document.createElement('figure');
    const image = document.createElement('img');
    image.src = one.source;
    image.alt = one.text;
    figure.append(image, element('figcaption', one.text));
    return figure;
  }

  function share(one) {
    const bar = document.createElement('progress');
    bar.value = one.probability;
    bar.setAttribute('aria-label', one.name);
    return [element('span', one.name), bar, element('span', one.text, 'share')];
  }

  function neighbour(one) {
    const item = document.createElement('li');
    if (one.source) {
      const image = document.createElement('img');
      image.src = one.source;
      image.alt = '';
      item.append(image);
    }
    const distance = `distance ${one.distance.toFixed(2)}`;
    item.append(element('div', one.label, 'first'), element('div', distance));
    if (one.path) item.append(element('div', one.path, 'path'));
    return item;
  }

  function mark(ood) {
    const score = `${ood.name} ${ood.score.toPrecision(3)}`;
    const threshold = ood.threshold.toPrecision(3);
    return ood.out_of_distribution
      ? element('strong', `Unlike anything in training: ${score} is below ${threshold}`, 'unlike')
      : element('span', `Like the training images: ${score}, threshold ${threshold}`);
  }

  function show(article, answer) {
    if (answer.ood) article.querySelector('.ood').append(mark(answer.ood));
    if (answer.nearest.length) {
      article.querySelector('.nearest').hidden = false;
      article.querySelector('.gallery').append(...answer.nearest.map(neighbour));
    }
    article.querySelector('.verdict').textContent = answer.headline;
    article.querySelector('.shares').append(...answer.top.flatMap(share));
    article.querySelector('.pictures').append(...answer.pictures.map(picture));
  }

  async function ask(file) {
    if (file.size > mostBytes) {
      const size = (file.size / 1e6).toPrecision(3);
      throw new Error(`This file has ${size} MB, wanted at most ${mostBytes / 1e6} MB.`);
    }
    const options = { method: 'POST', body: file, headers: { 'Content-Type': 'image/*' } };
    const response = await fetch('predict', options).catch(() => {
      throw new Error('The file cannot be read, or the server does not answer.');
    });
    const answer = await response.json().catch(() => {
      throw new Error(`The server answered ${response.status} ${response.statusText}.`);
    });
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  async function predict(file) {
    const article = template.content.firstElementChild.cloneNode(true);
    const verdict = article.querySelector('.verdict');
    article.querySelector('h2').textContent = file.name;
    verdict.textContent = '…';
    article.setAttribute('aria-busy', 'true');
    results.prepend(article);
    try {
      show(article, await ask(file));
    } catch (error) {
      verdict.className = 'refused';
      verdict.textContent = error.message;
    }
    article.removeAttribute('aria-busy');
  }

  function add(files) {
    for (const file of files) last = last.then(() => predict(file));
  }

  input.addEventListener('change', () => {
    add([...input.files]);
    input.value = '';
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) drop.classList.remove('over');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    add([...event.dataTransfer.files]);
  });
})();
