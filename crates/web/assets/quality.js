// Pictures as good as the line allows. The other end says now and then what time it is; what is on its way longer than
// it was at best has waited in a queue, and then less is to be sent.

const BEST = 8;
const WORST = 1;
// Milliseconds in a queue: from there on it is felt, and up to there it is not.
const LONG = 200;
const SHORT = 60;
// Heard in a row before it is made better; each is half a second.
const GOOD = 12;
// The least delay is looked for anew so often: clocks drift, and lines change.
const FRESH = 120;

export class Quality {
  constructor(rfb) {
    this.rfb = rfb;
    this.level = BEST;
    this.good = 0;
    this.count = 0;
    this.least = Infinity;
    this.next = Infinity;
    rfb.qualityLevel = BEST;
    rfb.compressionLevel = 2;
  }

  heard(sent) {
    const delay = Date.now() - sent;
    this.next = Math.min(this.next, delay);
    this.least = Math.min(this.least, delay);
    this.count += 1;
    if (this.count % FRESH === 0) [this.least, this.next] = [this.next, Infinity];
    const waited = delay - this.least;
    if (waited > LONG) {
      this.good = 0;
      this.set(this.level - 2);
    } else if (waited < SHORT) {
      this.good += 1;
      if (this.good >= GOOD) {
        this.good = 0;
        this.set(this.level + 1);
      }
    }
  }

  set(wanted) {
    const level = Math.max(WORST, Math.min(BEST, wanted));
    if (level === this.level) return;
    this.level = level;
    this.rfb.qualityLevel = level;
    // Of less, more is squeezed.
    this.rfb.compressionLevel = level < 4 ? 6 : 2;
  }
}
