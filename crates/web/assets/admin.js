// Shows the part of a page that changes as the server makes it anew. Without it a page is as good; reload it.
const live = document.getElementById('live');
const lost = document.getElementById('lost');
const ATTEMPTS = 5;

function say(text) {
  lost.textContent = text;
  lost.hidden = text === '';
}

// What somebody has ticked, opened, scrolled and is on stays so.
function show(html) {
  const ticked = new Set([...live.querySelectorAll('input:checked')].map((input) => input.value));
  const opened = new Set([...live.querySelectorAll('details[open] > summary')].map((summary) => summary.textContent));
  const scrolled = [...live.querySelectorAll('.wide')].map((wide) => wide.scrollLeft);
  const on = document.activeElement;
  const same = live.contains(on) && (on.getAttribute('href') ? `a[href="${CSS.escape(on.getAttribute('href'))}"]`
    : on.value ? `[value="${CSS.escape(on.value)}"]` : null);
  live.innerHTML = html;
  for (const input of live.querySelectorAll('input[type=checkbox]')) input.checked = ticked.has(input.value);
  for (const summary of live.querySelectorAll('details > summary')) if (opened.has(summary.textContent)) summary.parentElement.open = true;
  live.querySelectorAll('.wide').forEach((wide, place) => { wide.scrollLeft = scrolled[place] ?? 0; });
  if (same) live.querySelector(same)?.focus({ preventScroll: true });
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
