// When to search: one request at a time. The newest query waits for it, and all between are left out.

const REST = 20; // milliseconds after which a pen that does not move rests, and what it drew is searched by at once
const MOVING = 100; // between two searches while it moves
const LEAST = 30; // between any two that nobody waits for
const LEISURE = 60; // a search that takes longer, by a slow network or a busy service, is followed by a pause as long,
const LONGEST = 500; // at most, unless the pen rests
const SLOWEST = 2000; // between two searches of a service that refuses some

export class Pace {
  #search;
  #running = null;
  #wanted = false;
  #urgent = false;
  #timer = null;
  #began = -Infinity;
  #rested = 0;
  #free = 0; // when the service has had its pause
  #open = 0; // when the service wants to be asked again
  #least = LEAST;

  // `search` gets an AbortSignal, and resolves to the seconds after which to try again if the service asked for that.
  constructor(search) {
    this.#search = search;
  }

  // Something is changing, such as a stroke that is being drawn.
  soon() {
    this.#wanted = true;
    this.#rested = performance.now() + REST;
    this.#go();
  }

  // A change is complete. What is being searched for is out of date.
  now() {
    this.stop();
    this.#wanted = this.#urgent = true;
    this.#go();
  }

  // There is nothing to search for any more.
  stop() {
    this.#running?.abort();
    this.#running = null;
    this.#wanted = this.#urgent = false;
    clearTimeout(this.#timer);
  }

  #go() {
    clearTimeout(this.#timer);
    if (!this.#wanted || this.#running) return;
    const wait = this.#due() - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#go(), wait);
    else this.#begin();
  }

  #due() {
    if (this.#urgent) return this.#open;
    const moving = Math.max(this.#free, this.#began + MOVING);
    return Math.max(this.#open, this.#began + this.#least, Math.min(this.#rested, moving));
  }

  async #begin() {
    const running = (this.#running = new AbortController());
    const urgent = this.#urgent;
    this.#wanted = this.#urgent = false;
    this.#began = performance.now();
    const refused = await this.#search(running.signal);
    if (running.signal.aborted) return;
    this.#running = null;
    const now = performance.now();
    if (refused) {
      this.#open = now + 1000 * refused;
      this.#least = Math.min(SLOWEST, 4 * this.#least);
      this.#wanted = true;
      this.#urgent ||= urgent;
    } else {
      const took = now - this.#began;
      this.#free = took > LEISURE ? now + Math.min(took, LONGEST) : 0;
      this.#least = Math.max(LEAST, 0.9 * this.#least);
    }
    this.#go();
  }
}
