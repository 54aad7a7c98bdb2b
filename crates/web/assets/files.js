// A user's files beside their desktop: a folder to look into, files to fetch, files to drop in.

const panel = document.getElementById('files');
const list = document.getElementById('entries');
const where = document.getElementById('where');
const doing = document.getElementById('doing');
const words = panel.dataset;
const chosen = document.getElementById('chosen');

let id = null;
let folder = '';

// With each connection it is another one.
export function belongTo(number) {
  id = number;
}

const address = (verb, path, more = {}) => `/files/${id}/${verb}?${new URLSearchParams({ path, ...more })}`;
const join = (name) => `${folder.replace(/\/$/, '')}/${name}`;

function say(text, isError = false) {
  const line = document.createElement('li');
  line.textContent = text;
  if (isError) line.className = 'wrong';
  doing.prepend(line);
  while (doing.children.length > 20) doing.lastChild.remove();
  return line;
}

async function why(answer) {
  try {
    const { text, reference } = await answer.json();
    return `${text} (${reference})`;
  } catch {
    return words.failed;
  }
}

const sizes = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
function size(bytes) {
  let step = 0;
  let left = bytes;
  while (left >= 1024 && step < sizes.length - 1) {
    left /= 1024;
    step += 1;
  }
  return `${new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: step && left < 10 ? 1 : 0 }).format(left)} ${sizes[step]}`;
}

function entry({ name, kind, size: bytes, changed }) {
  const row = document.createElement('li');
  let it;
  if (kind === 'file') {
    it = document.createElement('a');
    it.href = address('get', join(name));
    it.download = name;
    it.addEventListener('click', fetchFile);
  } else {
    it = document.createElement('button');
    it.type = 'button';
    it.disabled = kind === 'other';
    it.addEventListener('click', () => open(join(name)));
  }
  it.textContent = kind === 'folder' ? `${name}/` : name;
  const told = document.createElement('span');
  const date = new Date(changed * 1000).toLocaleString(document.documentElement.lang, { dateStyle: 'medium', timeStyle: 'short' });
  told.textContent = kind === 'file' ? `${size(bytes)} · ${date}` : date;
  row.append(it, told);
  return row;
}

// Whether it may be fetched is asked first: a browser would save the refusal.
async function fetchFile(event) {
  event.preventDefault();
  const link = event.currentTarget;
  const asked = await fetch(link.href, { method: 'HEAD' }).catch(() => null);
  if (!asked?.ok) {
    const answer = asked && await fetch(link.href).catch(() => null);
    say(`${link.download}: ${answer ? await why(answer) : words.failed}`, true);
    return;
  }
  link.removeEventListener('click', fetchFile);
  link.click();
  link.addEventListener('click', fetchFile);
}

async function open(path) {
  if (!id) return;
  list.setAttribute('aria-busy', 'true');
  const answer = await fetch(address('list', path)).catch(() => null);
  list.removeAttribute('aria-busy');
  if (!answer?.ok) {
    say(answer ? await why(answer) : words.failed, true);
    return;
  }
  const { path: whole, entries, more } = await answer.json();
  folder = whole;
  where.textContent = whole;
  const hidden = document.getElementById('hidden').checked;
  const order = new Intl.Collator(document.documentElement.lang, { numeric: true });
  const rank = ({ kind }) => (kind === 'folder' ? 0 : 1);
  const shown = entries.filter(({ name }) => hidden || !name.startsWith('.'));
  shown.sort((a, b) => rank(a) - rank(b) || order.compare(a.name, b.name));
  list.replaceChildren(...shown.map(entry));
  if (whole !== '/') {
    const up = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = '../';
    button.setAttribute('aria-label', words.up);
    button.addEventListener('click', () => open(whole.slice(0, whole.lastIndexOf('/')) || '/'));
    up.append(button);
    list.prepend(up);
  }
  if (more) say(words.more);
}

// Whether there is one is asked before it is sent: it may be large.
async function isThere(path) {
  const answer = await fetch(address('get', path), { method: 'HEAD' }).catch(() => null);
  return answer !== null && (answer.ok || answer.status === 403);
}

function refused(line, file, text) {
  line.className = 'wrong';
  line.textContent = `${file.name}: ${text}`;
}

function offer(line, file) {
  const again = document.createElement('button');
  again.type = 'button';
  again.textContent = words.replace;
  again.addEventListener('click', () => { line.remove(); send(file, true); }, { once: true });
  line.append(again);
}

async function send(file, replace = false) {
  const path = join(file.name);
  const line = say(file.name);
  if (!replace && await isThere(path)) {
    refused(line, file, words.exists);
    offer(line, file);
    return;
  }
  await put(file, path, replace, line);
}

function put(file, path, replace, line) {
  const bar = document.createElement('progress');
  bar.max = file.size || 1;
  bar.value = 0;
  bar.setAttribute('aria-label', file.name);
  const cancel = document.createElement('button');
  cancel.type = 'button';
  cancel.textContent = words.cancel;
  line.append(bar, cancel);
  const request = new XMLHttpRequest();
  request.open('PUT', address('put', path, replace ? { replace: 'true' } : {}));
  request.upload.addEventListener('progress', ({ loaded }) => { bar.value = loaded; });
  cancel.addEventListener('click', () => request.abort());
  return new Promise((done) => {
    request.addEventListener('loadend', async () => {
      bar.remove();
      cancel.remove();
      if (request.status === 204) {
        line.textContent = `${file.name}: ${words.sent}`;
        if (where.textContent === folder) open(folder);
        return done();
      }
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* It broke. */ }
      refused(line, file, told.text ? `${told.text} (${told.reference})` : words.failed);
      if (told.exists) offer(line, file);
      done();
    });
    request.send(file);
  });
}

// One after the other: they share the line.
let queue = Promise.resolve();
function take(files) {
  for (const file of files) queue = queue.then(() => send(file));
}

chosen.addEventListener('change', () => { take([...chosen.files]); chosen.value = ''; });
document.getElementById('hidden').addEventListener('change', () => open(folder));

async function show(shown) {
  panel.hidden = !shown;
  document.getElementById('files-shown').setAttribute('aria-expanded', shown);
  if (shown) {
    panel.focus();
    await open(folder);
  }
}
document.getElementById('files-shown').addEventListener('click', () => show(panel.hidden));
document.getElementById('files-closed').addEventListener('click', () => { show(false); document.getElementById('files-shown').focus(); });

// Dropped anywhere on the desktop: into the folder that the panel shows, at first the user's home.
const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
addEventListener('dragover', (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  panel.classList.add('wanted');
});
addEventListener('dragleave', ({ relatedTarget }) => { if (!relatedTarget) panel.classList.remove('wanted'); });
addEventListener('drop', async (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  panel.classList.remove('wanted');
  const files = [...event.dataTransfer.files];
  if (panel.hidden) await show(true);
  take(files);
});
