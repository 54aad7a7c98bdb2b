// The clipboards of the desktop and of this machine, kept alike without a panel. What the site forbids the desktop's
// host forbids: it neither sends nor takes anything then.

// A key that pastes, and nothing was pasted: the desktop gets the key all the same.
const PASTE_WAIT = 150;
const CONTROL_V = 0x76;
const INSERT = 0xff63;

// A program asks for what is pasted when it has seen the key. What is typed next waits until it has it, or does not ask.
const ASKS_WITHIN = 250;
// ClientCutText of the extended kind, with the text itself: its first byte, and a bit of its flags (byte 8).
const CUT_TEXT = 6;
const PROVIDE = 1 << 4;

export function share(rfb, keys, socket) {
  // What the desktop has copied last, and what of it this machine has not taken yet.
  let copied = null;
  let waiting = null;
  // What both have.
  let last = null;

  // Browsers let a page write when its user has just done something in it.
  const give = async () => {
    if (waiting === null || !document.hasFocus()) return;
    const text = waiting;
    try {
      await navigator.clipboard.writeText(text);
      last = text;
      if (waiting === text) waiting = null;
    } catch { /* At the next key or click. */ }
  };
  rfb.addEventListener('clipboard', ({ detail }) => {
    copied = waiting = detail.text;
    give();
  });

  let given = () => {};
  const send = socket.send.bind(socket);
  socket.send = (data) => {
    send(data);
    const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    if (bytes[0] === CUT_TEXT && bytes[4] & 0x80 && bytes[8] & PROVIDE) given();
  };
  // What is typed next comes when what is pasted is there.
  const wait = () => {
    keys.pause();
    const over = setTimeout(() => given(), ASKS_WITHIN);
    given = () => {
      clearTimeout(over);
      given = () => {};
      keys.resume();
    };
  };

  const take = (text) => {
    if (!text || text === last) return;
    last = text;
    waiting = null;
    rfb.clipboardPasteFrom(text);
  };

  // Where the user has allowed it once, the desktop has what was copied elsewhere as soon as this page is used again.
  const look = async () => {
    try {
      const allowed = await navigator.permissions.query({ name: 'clipboard-read' });
      if (allowed.state === 'granted' && document.hasFocus()) take(await navigator.clipboard.readText());
    } catch { /* A browser that asks each time: only when the user pastes. */ }
  };

  // Keys that paste: the browser hands out what it has when they are left to it, and asks nobody.
  let pending = 0;
  const paste = (event) => {
    if (!event.isTrusted || event.altKey || event.metaKey || !keys.hasFocus()) return;
    const byV = event.ctrlKey && event.code === 'KeyV';
    const byInsert = event.shiftKey && !event.ctrlKey && event.code === 'Insert';
    if (!byV && !byInsert) return;
    event.stopImmediatePropagation();
    clearTimeout(pending);
    const keysym = byInsert ? INSERT : event.key.length === 1 ? event.key.codePointAt(0) : CONTROL_V;
    // That a key beside it is let go comes after it.
    keys.pause();
    const press = () => {
      pending = 0;
      rfb.sendKey(keysym, event.code);
      // Keys that were let go meanwhile belong to it.
      keys.resume();
      wait();
    };
    pending = setTimeout(press, PASTE_WAIT);
    keys.pasted = (text) => {
      if (!pending) return;
      clearTimeout(pending);
      take(text);
      press();
    };
  };
  const pasted = (event) => {
    if (!keys.hasFocus()) return;
    event.preventDefault();
    keys.pasted?.(event.clipboardData?.getData('text/plain') ?? '');
  };

  addEventListener('keydown', paste, true);
  addEventListener('paste', pasted, true);
  addEventListener('focus', look);
  addEventListener('keydown', give, true);
  addEventListener('pointerdown', give, true);
  look();
  return {
    copied: () => copied,
    // Types a text that has no keys, and leaves the clipboard as it was.
    type(text) {
      const before = last;
      rfb.clipboardPasteFrom(text);
      rfb.sendKey(0xffe1, 'ShiftLeft', true);
      rfb.sendKey(INSERT, 'Insert');
      rfb.sendKey(0xffe1, 'ShiftLeft', false);
      wait();
      if (before !== null) setTimeout(() => rfb.clipboardPasteFrom(before), 2 * ASKS_WITHIN);
    },
    stop() {
      clearTimeout(pending);
      given();
      keys.resume();
      removeEventListener('keydown', paste, true);
      removeEventListener('paste', pasted, true);
      removeEventListener('focus', look);
      removeEventListener('keydown', give, true);
      removeEventListener('pointerdown', give, true);
    },
  };
}
