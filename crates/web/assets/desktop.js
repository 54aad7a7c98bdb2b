// A desktop in this page, and back to it after whatever cut it off.
import RFB from '/novnc/core/rfb.js';
import { share } from './clipboard.js';
import { belongTo } from './files.js';
import { keys } from './keyboard.js';
import { Quality } from './quality.js';

const screen = document.getElementById('screen');
const notice = document.getElementById('notice');
const text = document.getElementById('text');
const actions = document.getElementById('actions');
const words = screen.dataset;

// Nothing was heard for so long: the other end is gone. It says something each half second.
const SILENCE = 1500;
const DIAL = 4000;
const WAIT_FIRST = 100;
const WAIT_MOST = 15000;
// A connection that held for so long was a good one.
const STEADY = 10000;

const asked = new URLSearchParams(location.search);
let session = asked.get('session');
let fresh = asked.get('new') === 'true';
const profile = asked.get('profile') ?? '';
// On a phone a desktop is shown smaller than it is, or nothing would fit on it.
const narrow = screen.clientWidth < 800;
const scale = narrow ? 1100 / Math.max(1, screen.clientWidth) : 1;
// One wish, however often it takes.
let request = crypto.randomUUID();
let wait = WAIT_FIRST;
let current = null;

// For tests and for those who look for a fault.
const log = (window.vsm = { events: [], rfb: null, quality: null, clipboard: null, connected: 0 });
const say = (what) => { log.events.push([Math.round(performance.now()), what]); log.events.splice(0, log.events.length - 100); };

function show(message, buttons = []) {
  text.textContent = message;
  actions.replaceChildren(...buttons);
  notice.hidden = false;
  buttons[0]?.focus();
}

function button(label, act) {
  const it = document.createElement('button');
  it.type = 'button';
  it.textContent = label;
  it.addEventListener('click', act, { once: true });
  return it;
}

const again = () => button(words.again, () => { request = crypto.randomUUID(); wait = WAIT_FIRST; open(); });

function choose() {
  const it = document.createElement('a');
  it.className = 'button';
  it.href = '/desktops';
  it.textContent = words.sessions;
  return it;
}

// What a page that is loaded again asks for.
function remember(id) {
  session = id;
  fresh = false;
  history.replaceState(null, '', id ? `/desktop?session=${encodeURIComponent(id)}` : '/desktop');
}

function address() {
  const query = new URLSearchParams({ request });
  if (session) query.set('session', session);
  else if (fresh) query.set('new', 'true');
  if (fresh && profile) query.set('profile', profile);
  query.set('width', Math.max(320, Math.floor(screen.clientWidth * scale)));
  query.set('height', Math.max(240, Math.floor(screen.clientHeight * scale)));
  return `wss://${location.host}/rfb?${query}`;
}

function open() {
  const own = { up: 0, over: false, last: performance.now(), looked: performance.now(), socket: null, rfb: null, quality: null, clipboard: null, watch: 0 };
  current = own;
  own.socket = new WebSocket(address(), ['binary']);
  own.socket.binaryType = 'arraybuffer';

  // Once, whatever comes first: the socket's end, a silence, or a word of the server's.
  const finish = (next) => {
    if (own.over) return;
    own.over = true;
    clearInterval(own.watch);
    own.clipboard?.stop();
    keys.rfb = keys.clipboard = null;
    belongTo(null);
    own.socket.close();
    try { own.rfb?.disconnect(); } catch { /* it never began */ }
    if (current === own) next();
  };
  const back = (why, because = words.reconnecting) => finish(() => {
    say(why);
    show(because);
    const steady = own.up && performance.now() - own.up > STEADY;
    if (steady) wait = WAIT_FIRST;
    // A page that nobody looks at does not take the desktop back from where it is used.
    if (document.hidden) document.addEventListener('visibilitychange', open, { once: true });
    else setTimeout(open, steady ? 0 : wait * (0.5 + Math.random()));
    wait = Math.min(wait * 1.5, WAIT_MOST);
  });

  own.watch = setInterval(() => {
    const now = performance.now();
    // A page that was held up has messages to read first.
    if (now - own.looked > 1000) own.last = now;
    own.looked = now;
    const silent = now - own.last;
    if (silent > (own.socket.readyState === WebSocket.CONNECTING ? DIAL : SILENCE)) back('silent');
  }, 100);

  own.socket.addEventListener('message', ({ data }) => {
    own.last = performance.now();
    if (typeof data !== 'string') return;
    if (data.startsWith('h')) own.quality?.heard(Number(data.slice(1)));
    else told(JSON.parse(data), finish, back);
  });
  own.socket.addEventListener('open', () => { own.last = performance.now(); });
  own.socket.addEventListener('close', () => back('closed'));
  // Before its first message: it is the one that answers.
  start(own, back);
}

function start(own, back) {
  const rfb = new RFB(screen, own.socket, { shared: true });
  own.rfb = log.rfb = rfb;
  rfb.resizeSession = !narrow;
  rfb.scaleViewport = narrow;
  // The field for keys has it.
  rfb.focusOnClick = false;
  rfb.addEventListener('connect', () => {
    own.up = performance.now();
    log.connected += 1;
    notice.hidden = true;
    own.quality = log.quality = new Quality(rfb);
    own.clipboard = share(rfb, keys, own.socket);
    keys.rfb = rfb;
    keys.clipboard = own.clipboard;
    log.clipboard = own.clipboard.copied;
    keys.focus();
    say('connected');
  });
  rfb.addEventListener('disconnect', () => back('disconnected'));
}

function told(message, finish, back) {
  switch (message.on) {
    case 'session':
      remember(message.id);
      belongTo(message.files);
      break;
    case 'choose':
      finish(() => location.assign('/desktops'));
      break;
    case 'ended':
      finish(() => { say('ended'); remember(null); show(words.ended, [again()]); });
      break;
    case 'taken':
      finish(() => { say('taken'); show(words.taken, [again()]); });
      break;
    case 'dropped':
      finish(() => { say('dropped'); show(words.dropped, [again()]); });
      break;
    case 'failed':
      if (message.login) finish(() => location.assign('/over'));
      else if (message.again) back('failed', `${message.text} (${message.reference})`);
      else finish(() => { say('failed'); show(`${message.text} (${message.reference})`, [again(), choose()]); });
      break;
    default:
      // Of a newer version than this page: nothing that it needs.
      break;
  }
}

document.getElementById('full').addEventListener('click', async () => {
  if (document.fullscreenElement) return document.exitFullscreen();
  await document.documentElement.requestFullscreen();
  // Keys that the browser keeps for itself otherwise; not every browser can.
  await navigator.keyboard?.lock?.();
  keys.focus();
});

// The picture takes all keys. Ctrl+Alt+Home leads from it to the bar, and Escape back.
addEventListener('keydown', (event) => {
  const bar = document.getElementById('bar');
  if (event.ctrlKey && event.altKey && event.code === 'Home') {
    event.preventDefault();
    event.stopImmediatePropagation();
    document.getElementById('full').focus();
  } else if (event.code === 'Escape' && bar.contains(document.activeElement)) {
    keys.focus();
  }
}, true);

open();
