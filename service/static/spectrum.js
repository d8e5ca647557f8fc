// What each mode weighs in the gallery as bars; the modes in use are highlighted.

const [WIDTH, HEIGHT] = [300, 80];
const MOST_BARS = 150;

export class SpectrumPlot {
  #svg;
  #caption;
  #spectrum = [];
  #learned = "";
  #bars = [];

  constructor(svg, caption) {
    this.#svg = svg;
    this.#caption = caption;
  }

  show(spectrum, sketches) {
    this.#spectrum = spectrum;
    this.#learned = sketches ? `. Their order is learned from ${sketches.toLocaleString()} drawing${sketches === 1 ? "" : "s"}` : "";
    const step = Math.ceil(spectrum.length / MOST_BARS);
    const count = Math.ceil(spectrum.length / step);
    this.#bars = Array.from({ length: count }, (_, bar) => {
      const mode = bar * step;
      const height = Math.max(1, (spectrum[mode] / spectrum[0]) * HEIGHT);
      const rectangle = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      rectangle.setAttribute("x", (bar * WIDTH) / count);
      rectangle.setAttribute("width", (WIDTH / count) * 0.8);
      rectangle.setAttribute("y", HEIGHT - height);
      rectangle.setAttribute("height", height);
      return { rectangle, mode };
    });
    this.#svg.replaceChildren(...this.#bars.map(({ rectangle }) => rectangle));
  }

  highlight(dimensions) {
    for (const { rectangle, mode } of this.#bars) {
      rectangle.setAttribute("class", mode < dimensions ? "used" : "unused");
    }
    const energy = (values) => values.reduce((sum, value) => sum + value * value, 0);
    const share = (100 * energy(this.#spectrum.slice(0, dimensions))) / energy(this.#spectrum);
    this.#caption.textContent =
      `${dimensions} of ${this.#spectrum.length} modes hold ${share.toFixed(share < 99 ? 0 : 1)}% of what tells the photos apart${this.#learned}`;
  }
}
