// Keys, and texts that no key has: dead keys, input methods, on-screen keyboards. A picture gets none of those from a
// browser, only a field for text does. So an invisible one has the focus; plain keys go from it to noVNC, as they are.

// So much is in the field that a backspace has something to take away.
const FILL = ' '.repeat(32);
const KEYSYMS = { Enter: 0xff0d, Backspace: 0xff08, Delete: 0xffff, Escape: 0xff1b, Tab: 0xff09, Control: 0xffe3, Alt: 0xffe9, Super: 0xffeb, Left: 0xff51, Up: 0xff52, Right: 0xff53, Down: 0xff54 };

// As X has it: Latin-1 is itself, all else is by its number in Unicode.
const keysym = (point) => (point >= 0x20 && point <= 0xff ? point : 0x1000000 | point);

// What is typed while a paste is under way comes after it, as it was typed.
let paused = false;
const queue = [];
function inTurn(act) {
  if (paused) queue.push(act);
  else act();
}

const picture = () => document.querySelector('#screen canvas');

export const keys = {
  area: document.getElementById('keys'),
  // Told by the clipboard, once a key that pastes was pressed.
  pasted: null,
  // The desktop's end: set while there is one.
  rfb: null,
  clipboard: null,
  held: new Set(),

  focus() {
    // An on-screen keyboard comes with the focus: then only where it is asked for.
    if (matchMedia('(pointer: coarse)').matches) this.rfb?.focus();
    else this.area.focus({ preventScroll: true });
  },

  hasFocus() {
    return document.activeElement === this.area || document.activeElement === picture();
  },

  pause() {
    paused = true;
  },

  resume() {
    paused = false;
    while (queue.length && !paused) queue.shift()();
  },

  // A character at a time where the desktop's keyboard surely has it, else the whole text at once: each character that
  // it has not takes one of some twenty spare keys.
  text(text) {
    inTurn(() => this.type(text));
  },

  type(text) {
    if (!this.rfb || !text) return;
    const points = [...text].map((letter) => letter.codePointAt(0));
    if (points.length <= 2 || points.every((point) => point < 0x80)) {
      for (const point of points) this.press(point === 10 || point === 13 ? KEYSYMS.Enter : point === 9 ? KEYSYMS.Tab : keysym(point));
    } else {
      this.clipboard?.type(text);
    }
  },

  press(symbol) {
    this.rfb.sendKey(symbol, null);
    // One that was held for this key alone.
    for (const name of [...this.held]) this.hold(name);
  },

  // Holds a modifier for the next key, or lets it go.
  hold(name) {
    const down = !this.held.delete(name);
    if (down) this.held.add(name);
    this.rfb?.sendKey(KEYSYMS[name], null, down);
    for (const button of document.querySelectorAll(`#pad [data-hold="${name}"]`)) button.setAttribute('aria-pressed', down);
    return down;
  },
};

const { area } = keys;
let composing = false;
const reset = () => {
  area.value = FILL;
  area.setSelectionRange(FILL.length, FILL.length);
};

// What a plain key is; all else comes as text.
const plain = (event) => !event.isComposing && event.keyCode !== 229 && !['Dead', 'Process', 'Unidentified', 'Compose'].includes(event.key);

// All that is looked at of a key, locks included.
const copy = (event) => ({
  key: event.key, code: event.code, location: event.location, repeat: event.repeat, keyCode: event.keyCode,
  ctrlKey: event.ctrlKey, shiftKey: event.shiftKey, altKey: event.altKey, metaKey: event.metaKey,
  modifierAltGraph: event.getModifierState('AltGraph'),
  modifierCapsLock: event.getModifierState('CapsLock'),
  modifierNumLock: event.getModifierState('NumLock'),
  bubbles: true, cancelable: true,
});

for (const kind of ['keydown', 'keyup']) {
  area.addEventListener(kind, (event) => {
    if (kind === 'keydown' && !plain(event)) return;
    event.preventDefault();
    const same = copy(event);
    inTurn(() => {
      // noVNC looks at what the event says, and at nothing else of it.
      picture()?.dispatchEvent(new KeyboardEvent(kind, same));
      if (kind === 'keyup' && keys.held.size && !['Control', 'Alt', 'Shift', 'Meta'].includes(same.key)) {
        for (const name of [...keys.held]) keys.hold(name);
      }
    });
  });
}

area.addEventListener('compositionstart', () => { composing = true; });
area.addEventListener('compositionend', ({ data }) => {
  composing = false;
  keys.text(data);
  reset();
});
area.addEventListener('input', (event) => {
  if (composing || event.isComposing) return;
  switch (event.inputType) {
    case 'insertText':
    case 'insertReplacementText':
      keys.text(event.data ?? '');
      break;
    case 'insertLineBreak':
    case 'insertParagraph':
      keys.press(KEYSYMS.Enter);
      break;
    case 'deleteContentBackward':
    case 'deleteWordBackward':
      keys.press(KEYSYMS.Backspace);
      break;
    case 'deleteContentForward':
      keys.press(KEYSYMS.Delete);
      break;
    default:
      break;
  }
  reset();
});
area.addEventListener('focus', reset);

// Clicks go to the picture, keys to the field.
document.getElementById('screen').addEventListener('mouseup', () => keys.focus());

// Keys that a touch screen has not.
const pad = document.getElementById('pad');
pad.addEventListener('pointerdown', (event) => event.preventDefault());
pad.addEventListener('click', ({ target }) => {
  const button = target.closest('button');
  if (!button || !keys.rfb) return;
  if (button.dataset.hold) keys.hold(button.dataset.hold);
  else if (button.dataset.key) keys.press(KEYSYMS[button.dataset.key]);
  else area.focus({ preventScroll: true });
});
document.getElementById('pad-shown').addEventListener('click', ({ currentTarget }) => {
  pad.hidden = !pad.hidden;
  currentTarget.setAttribute('aria-expanded', !pad.hidden);
  if (pad.hidden) keys.rfb?.focus();
  else area.focus({ preventScroll: true });
});
reset();
