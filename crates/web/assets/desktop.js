// A desktop in this page, and back to it after whatever cut it off.
import RFB from '/novnc/core/rfb.js';

const screen = document.getElementById('screen');
const notice = document.getElementById('notice');
const text = document.getElementById('text');
const actions = document.getElementById('actions');
const words = screen.dataset;

// Nothing was heard for so long: the other end is gone. It says something each half second.
const SILENCE = 1500;
const DIAL = 4000;
const WAIT_FIRST = 100;
const WAIT_MOST = 2000;

const asked = new URLSearchParams(location.search);
let session = asked.get('session');
let fresh = asked.get('new') === 'true';
// One wish, however often it takes.
let request = crypto.randomUUID();
let wait = WAIT_FIRST;
let current = null;

// For tests and for those who look for a fault.
const log = (window.vsm = { events: [], rfb: null, connected: 0 });
const say = (what) => log.events.push([Math.round(performance.now()), what]);

function show(message, buttons = []) {
  text.textContent = message;
  actions.replaceChildren(...buttons);
  notice.hidden = false;
}

function button(label, act) {
  const it = document.createElement('button');
  it.type = 'button';
  it.textContent = label;
  it.addEventListener('click', act, { once: true });
  return it;
}

const again = () => button(words.again, () => { request = crypto.randomUUID(); wait = WAIT_FIRST; open(); });

function address() {
  const query = new URLSearchParams({ request });
  if (session) query.set('session', session);
  else if (fresh) query.set('new', 'true');
  query.set('width', Math.max(320, Math.floor(screen.clientWidth)));
  query.set('height', Math.max(240, Math.floor(screen.clientHeight)));
  return `wss://${location.host}/rfb?${query}`;
}

function open() {
  const own = { up: false, over: false, last: performance.now(), socket: null, rfb: null, watch: 0 };
  current = own;
  own.socket = new WebSocket(address(), ['binary']);
  own.socket.binaryType = 'arraybuffer';

  // Once, whatever comes first: the socket's end, a silence, or a word of the server's.
  const finish = (next) => {
    if (own.over) return;
    own.over = true;
    clearInterval(own.watch);
    own.socket.close();
    try { own.rfb?.disconnect(); } catch { /* it never began */ }
    if (current === own) next();
  };
  const back = (why) => finish(() => {
    say(why);
    show(words.reconnecting);
    setTimeout(open, own.up ? 0 : wait);
    wait = own.up ? WAIT_FIRST : Math.min(wait * 1.5, WAIT_MOST);
  });

  own.watch = setInterval(() => {
    const silent = performance.now() - own.last;
    if (silent > (own.socket.readyState === WebSocket.CONNECTING ? DIAL : SILENCE)) back('silent');
  }, 100);

  own.socket.addEventListener('message', ({ data }) => {
    own.last = performance.now();
    if (typeof data === 'string' && data !== 'h') told(own, JSON.parse(data), finish, back);
  });
  own.socket.addEventListener('open', () => { own.last = performance.now(); });
  own.socket.addEventListener('close', () => back('closed'));
  // Before its first message: it is the one that answers.
  start(own, back);
}

function start(own, back) {
  const rfb = new RFB(screen, own.socket, { shared: true });
  own.rfb = log.rfb = rfb;
  rfb.resizeSession = true;
  rfb.scaleViewport = false;
  rfb.addEventListener('connect', () => {
    own.up = true;
    wait = WAIT_FIRST;
    log.connected += 1;
    notice.hidden = true;
    rfb.focus();
    say('connected');
  });
  rfb.addEventListener('disconnect', () => back('disconnected'));
}

function told(own, message, finish, back) {
  switch (message.on) {
    case 'session':
      session = message.id;
      fresh = false;
      break;
    case 'choose':
      finish(() => location.assign('/desktops'));
      break;
    case 'ended':
      finish(() => { say('ended'); session = null; show(words.ended, [again()]); });
      break;
    case 'taken':
      finish(() => { say('taken'); show(words.taken, [again()]); });
      break;
    case 'failed':
      if (message.login) finish(() => location.assign('/over'));
      else if (message.again) back('failed');
      else finish(() => { say('failed'); show(`${message.text} (${message.reference})`, [again()]); });
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
  log.rfb?.focus();
});

open();
