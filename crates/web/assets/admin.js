// Shows the part of a page that changes as the server makes it anew. Without it a page is as good; reload it.
const live = document.getElementById('live');
const lost = document.getElementById('lost');
const ATTEMPTS = 5;

function say(text) {
  lost.textContent = text;
  lost.hidden = text === '';
}

const alike = (one, other) => one.nodeType === Node.ELEMENT_NODE && one.nodeName === other.nodeName
  && one.cloneNode(false).isEqualNode(other.cloneNode(false));

// Only what is another one is put in place: what somebody is on, or about to click, stays.
function change(now, then) {
  const from = [...now.childNodes];
  const to = [...then.childNodes];
  to.forEach((next, place) => {
    const old = from[place];
    if (!old) now.append(next);
    else if (old.isEqualNode(next)) return;
    else if (old.nodeType === Node.TEXT_NODE && next.nodeType === Node.TEXT_NODE) old.data = next.data;
    else if (alike(old, next)) change(old, next);
    else old.replaceWith(next);
  });
  for (const gone of from.slice(to.length)) gone.remove();
}

// A tick belongs to its session, wherever that stands now.
function show(html) {
  const ticked = new Set([...live.querySelectorAll('input:checked')].map((input) => input.value));
  const page = document.createElement('template');
  page.innerHTML = html;
  change(live, page.content);
  for (const input of live.querySelectorAll('input[type=checkbox]')) input.checked = ticked.has(input.value);
}

if (live?.dataset.live) {
  let failed = 0;
  let source = null;
  const open = () => {
    source = new EventSource(live.dataset.live);
    source.onmessage = ({ data }) => {
      failed = 0;
      say('');
      // A text that is being chosen is not taken away.
      if (getSelection().isCollapsed) show(data);
    };
    source.onerror = () => {
      failed += 1;
      if (failed > 1) say(lost.dataset.text);
      // A refusal ends it: some more attempts, since the other broker may just be taking over.
      if (source.readyState === EventSource.CLOSED && failed < ATTEMPTS) setTimeout(open, 1000 * 2 ** failed);
    };
  };
  open();
  // A page that nobody sees holds no connection.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source.close();
    else { failed = 0; open(); }
  });
}
